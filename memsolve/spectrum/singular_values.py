"""The singular values of a matrix, relative to its Frobenius norm, where Muon's iteration starts.

Those of a float64 matrix come from its singular value decomposition, those of a less precise one
from the eigenvalues of `G G^T` in float64, which is cheaper and needs the matrix itself only a
block at a time.
"""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from memsolve_kernels.errors import NonFiniteError
from numpy.typing import NDArray
from torch import Tensor

from memsolve.spectrum.matrices import StoredMatrix

Floats = NDArray[np.float64]

GRAM_FLOOR = 1e-7
"""Smallest relative singular value that the eigenvalues of `G G^T` in float64 resolve: the square
root of their rounding error, which is a few times 2^-53."""

SVD_FLOOR = 1e-14

BLOCK = 4096
"""Columns that are in float64 at a time."""


class Spectrum(NamedTuple):
    """The singular values of a matrix.

    Attributes:
        matrix: in its file.
        values: relative to the Frobenius norm, increasing, those above `floor`.
        floor: below it a singular value is rounding error.
    """

    matrix: StoredMatrix
    values: Floats
    floor: float

    @property
    def noise(self) -> int:
        """How many singular values are at most `floor`."""
        return self.matrix.rank - len(self.values)

    def quantile(self, level: float) -> float:
        """The smallest value that is at least as large as a share `level` of the values.

        Those of rounding error do not count. NaN if there are no values.
        """
        if not len(self.values):
            return float("nan")
        return float(np.quantile(self.values, level, method="inverted_cdf"))


def measure(matrix: StoredMatrix, device: str) -> Spectrum:
    """The spectrum of a matrix, computed in float64.

    Args:
        matrix: in its file.
        device: to compute on.

    Raises:
        NonFiniteError: NaN or infinity in the matrix.
    """
    values = relative_singular_values(load_finite(matrix, device))
    floor = rounding_floor(matrix)
    return Spectrum(matrix, values[values > floor], floor)


def load_finite(matrix: StoredMatrix, device: str) -> Tensor:
    """The values (rows, columns) on a device, in the stored dtype.

    Raises:
        NonFiniteError: names the matrix.
    """
    G = matrix.load().to(device)
    if not G.abs().amax().isfinite():
        raise NonFiniteError(
            f"{matrix.name} contains NaN or infinity; expected finite entries: leave it out by "
            f"--skip '{matrix.tensor.name}'"
        )
    return G


def rounding_floor(matrix: StoredMatrix) -> float:
    """The largest relative singular value that rounding to the stored dtype makes, or computing.

    An entry is rounded by at most `eps / 2` of it; independent and uniform errors have a standard
    deviation of at most `eps / sqrt(12)` of the entries' own, and a matrix (m, n) of them has
    singular values up to `sqrt(m) + sqrt(n)` times that (derived).
    """
    eps = torch.finfo(matrix.dtype).eps
    stored = eps / sqrt(12) * sum(1 / sqrt(side) for side in matrix.size)
    return max(stored, SVD_FLOOR if matrix.dtype == torch.float64 else GRAM_FLOOR)


def relative_singular_values(G: Tensor) -> Floats:
    """The singular values of `G` (m, n) over its Frobenius norm, increasing; zero of a zero one."""
    if G.dtype == torch.float64:
        values = torch.linalg.svdvals(scale(G)).flip(0)
        norm = torch.linalg.vector_norm(values)
    else:
        A = gram(G)
        norm = A.diagonal().sum().sqrt()
        values = torch.linalg.eigvalsh(A).clamp(min=0).sqrt()
    relative = values / norm if norm > 0 else torch.zeros_like(values)
    return np.asarray(relative.cpu().numpy(), dtype=np.float64)


def scale(G: Tensor) -> Tensor:
    """`G` over its largest entry, in float64: no square overflows. Zero stays zero."""
    largest = G.abs().amax().double()
    return G.double() / torch.where(largest == 0, 1, largest)


def gram(G: Tensor) -> Tensor:
    """`X X^T` in float64, with `X` the scaled `G` (m, n) or its transpose, whichever is wide."""
    wide = G.mT if G.shape[0] > G.shape[1] else G
    largest = G.abs().amax().double()
    largest = torch.where(largest == 0, 1, largest)
    A = wide.new_zeros(wide.shape[0], wide.shape[0], dtype=torch.float64)
    for first in range(0, wide.shape[1], BLOCK):
        X = wide[:, first : first + BLOCK].double() / largest
        A.addmm_(X, X.mT)
    return A


def pool_values(spectra: Sequence[Spectrum]) -> Floats:
    """The values of all matrices, increasing."""
    return np.sort(np.concatenate([spectrum.values for spectrum in spectra]))


def spectra_of(matrices: Sequence[StoredMatrix], device: str) -> Iterator[Spectrum]:
    """The spectra of matrices, which are in memory one at a time."""
    return (measure(matrix, device) for matrix in matrices)
