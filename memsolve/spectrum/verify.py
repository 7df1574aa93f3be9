"""What a schedule resolves of a matrix in a dtype, compared with the decomposition in float64."""

from math import inf
from typing import NamedTuple

import torch
from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.matrix_sign import Schedule, certify
from torch import Tensor

from memsolve.spectrum.matrices import StoredMatrix
from memsolve.spectrum.schedules import Target
from memsolve.spectrum.singular_values import gram, load_finite, rounding_floor, scale


class Verification(NamedTuple):
    """The sign of one matrix by a schedule, compared with the exact one.

    Attributes:
        share: of the singular values whose direction is resolved: with `u` and `v` its singular
            vectors and `P` the result, `||u^T P - v^T|| <= tolerance`. In exact arithmetic that is
            the distance of the singular value from one. Zero if the iteration diverged.
        loss: the share that is resolved in exact arithmetic only.
        orthogonality, asymmetry, negativity: the residuals of `certify`.
    """

    share: float
    loss: float
    orthogonality: float
    asymmetry: float
    negativity: float


DIVERGED = Verification(0.0, 1.0, inf, inf, inf)


class Decomposition(NamedTuple):
    """A matrix with the singular vectors that count.

    Attributes:
        matrix: (m, n), as stored, on a device.
        left: (m', k), orthonormal, in float64; m' is the smaller side.
        right: (k, n'), likewise; n' is the larger side.
    """

    matrix: Tensor
    left: Tensor
    right: Tensor


def decompose(matrix: StoredMatrix, device: str) -> Decomposition:
    """The singular vectors of a matrix above its rounding floor, in float64."""
    G = load_finite(matrix, device)
    X = scale(G)
    wide = X.mT if X.shape[0] > X.shape[1] else X
    left = (
        torch.linalg.svd(wide, full_matrices=False).U
        if G.dtype == torch.float64
        else torch.linalg.eigh(gram(G)).eigenvectors
    )
    rows = left.mT @ wide
    values = torch.linalg.vector_norm(rows, dim=1)
    kept = values > rounding_floor(matrix) * torch.linalg.vector_norm(values)
    return Decomposition(G, left[:, kept], rows[kept] / values[kept, None])


def verify(
    decomposition: Decomposition, schedule: Schedule, exact_share: float, target: Target
) -> Verification:
    """Run a schedule on a matrix in the dtype of the target, and compare.

    Args:
        decomposition: of the matrix.
        schedule: of the iteration.
        exact_share: of its singular values that the schedule resolves in exact arithmetic.
        target: has the tolerance and the dtype.
    """
    G, left, right = decomposition
    try:
        sign, *residuals = certify(G, schedule=schedule, dtype=target.dtype)
    except NonFiniteError:
        return DIVERGED._replace(loss=exact_share)
    P = sign.double()
    wide = P.mT if P.shape[0] > P.shape[1] else P
    distances = torch.linalg.vector_norm(left.mT @ wide - right, dim=1)
    share = float((distances <= target.tolerance).sum()) / max(1, len(distances))
    return Verification(share, max(0.0, exact_share - share), *map(float, residuals))
