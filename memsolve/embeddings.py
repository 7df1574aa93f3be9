"""Random embeddings, isotropic or with a covariance whose eigenvalues follow a power law."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import TypeGuard

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor

from memsolve.normals import NormalSource


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


class EmbeddingMap:
    """The linear map of standard normal numbers to embeddings of a covariance of trace 1.

    The eigenvectors of the covariance are uniformly distributed (Haar), so that no coordinate
    differs from another: with the coordinate axes as eigenvectors, an optimizer that scales
    coordinates, as Adam does, would whiten the inputs.

    Args:
        dim: embedding dimension `d`.
        anisotropy: `kappa` of `eigenvalues`; at 0 the map is `d^(-1/2)`, and nothing is drawn.
        source: draws the eigenvectors.
        dtype: of the embeddings.
    """

    def __init__(
        self, dim: int, anisotropy: float, source: NormalSource, dtype: torch.dtype
    ) -> None:
        self._scale = dim**-0.5
        self._stretch: tuple[Tensor, Tensor] | None = None
        if anisotropy != 0:
            scales = (dim * eigenvalues(dim, anisotropy)).sqrt().to(source.device, dtype)
            self._stretch = scales, random_rotation(dim, source, dtype)

    def apply_(self, rows: Tensor) -> None:
        """Map standard normal numbers (M, d) to embeddings, in their place."""
        rows.mul_(self._scale)
        if self._stretch is not None:
            scales, basis = self._stretch
            rows.copy_(rows.mul_(scales) @ basis.T)


def random_rotation(dim: int, source: NormalSource, dtype: torch.dtype) -> Tensor:
    """An orthogonal matrix (d, d), uniformly distributed (Haar), on the source's device.

    The factor Q of a Gaussian matrix, with the signs for which R has a positive diagonal (Mezzadri
    2007, *How to generate random matrices from the classical compact groups*).
    """
    with size_errors(f"a rotation of {dim} dimensions"):
        q, r = torch.linalg.qr(source.draw((dim, dim), torch.float64))
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
