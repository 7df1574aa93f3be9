"""Random embeddings, isotropic or with a covariance whose eigenvalues follow a power law."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import TypeGuard

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor


def eigenvalues(dim: int, anisotropy: float) -> Tensor:
    """Eigenvalues of the covariance of embeddings, `j^-kappa / sum_j j^-kappa`, (d,) float64.

    Their sum is 1, so that the mean squared norm of an embedding is 1 at every kappa.

    Args:
        dim: embedding dimension `d`.
        anisotropy: `kappa`, at least 0; 0 is isotropic.

    Raises:
        RangeError: `anisotropy` is no such number, or so large that an eigenvalue underflows.
    """
    check_anisotropy("anisotropy", anisotropy, dim)
    powers = torch.arange(1, dim + 1, dtype=torch.float64) ** -anisotropy
    return powers / powers.sum()


def check_anisotropy(name: str, value: object, dim: int) -> None:
    """Raise RangeError unless a value `is_anisotropy`, and no eigenvalue underflows at `dim`."""
    if not is_anisotropy(value):
        raise RangeError(f"{name} is {value!r}; expected a finite number of at least 0")
    if float(dim) ** -float(value) < torch.finfo(torch.float32).tiny:
        raise RangeError(
            f"{name} is {value!r}: eigenvalue {dim} of the covariance underflows; choose a smaller "
            "exponent"
        )


def is_anisotropy(value: object) -> TypeGuard[float]:
    """Whether a value can be an exponent of the eigenvalues: finite, at least 0."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf


def isotropic(shape: tuple[int, int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Embeddings (N, d), i.i.d. `N(0, I_d / d)`, on the generator's device."""
    with size_errors(f"a table of {shape[0]} x {shape[1]} numbers on {generator.device}"):
        normal = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    return normal.mul_(shape[1] ** -0.5)


def stretch(embeddings: Tensor, anisotropy: float, generator: torch.Generator) -> Tensor:
    """Embeddings of another covariance, by a linear map of isotropic ones, which are overwritten.

    The eigenvectors of the covariance are uniformly distributed (Haar), so that no coordinate
    differs from another: with the coordinate axes as eigenvectors, an optimizer that scales
    coordinates, as Adam does, would whiten the inputs.

    Args:
        embeddings: (N, d), of covariance `I_d / d`.
        anisotropy: `kappa` of `eigenvalues`; at 0 the embeddings are returned as they are, and
            nothing is drawn.
        generator: draws the eigenvectors.
    """
    num_items, dim = embeddings.shape
    if anisotropy == 0:
        return embeddings
    scales = (dim * eigenvalues(dim, anisotropy)).sqrt().to(embeddings)
    basis = random_rotation(dim, generator, embeddings.dtype)
    with size_errors(f"a table of {num_items} x {dim} numbers on {embeddings.device}"):
        return embeddings.mul_(scales) @ basis.T


def random_rotation(dim: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """An orthogonal matrix (d, d), uniformly distributed (Haar), on the generator's device.

    The factor Q of a Gaussian matrix, with the signs for which R has a positive diagonal (Mezzadri
    2007, *How to generate random matrices from the classical compact groups*).
    """
    with size_errors(f"a rotation of {dim} dimensions"):
        normal = torch.randn(
            (dim, dim), generator=generator, device=generator.device, dtype=torch.float64
        )
        q, r = torch.linalg.qr(normal)
    rotation: Tensor = (q * r.diagonal().sign()).to(dtype)
    return rotation


@contextmanager
def size_errors(what: str) -> Iterator[None]:
    """Raise RangeError for an array that does not fit in memory."""
    try:
        yield
    except RuntimeError as error:  # torch raises it where memory runs out, on a CPU, too
        raise RangeError(
            f"{what} cannot be made: {str(error).splitlines()[0]}; choose fewer items or dimensions"
        ) from error
