"""The matrix sign by a decomposition in float64: the fastest and most accurate backend on a CPU.

A float64 matrix needs a singular value decomposition. For less precise ones that of
`X X^T = V W V^T` suffices, which is cheaper: the norms of the rows of `P = V^T X` are the singular
values, and `V` times the normalised rows is the sign. Rounding rotates two rows towards each other
by about `eps / (s t)`, where `s` and `t` are their singular values relative to the largest. This
matters only if both are small, so that the smallest rows are decomposed again in their own span.
"""

import torch
from torch import Tensor

from memsolve_kernels.matrix_sign.interface import MatrixSignBackend
from memsolve_kernels.matrix_sign.scaling import fold, scale, unfold
from memsolve_kernels.matrix_sign.settings import Settings

_FLOAT64 = torch.finfo(torch.float64)
_SPLIT = 1e-10  # relative to the largest eigenvalue; smaller ones are decomposed again


class DirectBackend(MatrixSignBackend):
    """The sign by the fastest decomposition with the accuracy of the dtype."""

    def check(self, settings: Settings, device: torch.device) -> None:
        """All settings are supported that do not require an iteration."""

    def sign(self, matrix: Tensor, settings: Settings) -> Tensor:
        """The sign of `matrix` (..., m, n), not empty.

        Singular values below the bound of the matrix's dtype (`DEFAULT_LOWER`) end between zero and
        one, in proportion.
        """
        X, damping = scale(fold(matrix), settings.damping, torch.float64)
        decomposed = by_singular_values if matrix.dtype == torch.float64 else by_eigenvalues
        return unfold(decomposed(X, damping, settings.lower), matrix)


def by_singular_values(X: Tensor, damping: Tensor, lower: float) -> Tensor:
    """`h_damping` of float64 `X` (k, m, n), m <= n, with a damping (k,) for each."""
    left, values, right = torch.linalg.svd(X.mT, full_matrices=False)  # faster for tall matrices
    signs = values * _inverse(values, damping, lower)
    sign: Tensor = (right.mT * signs[:, None, :]) @ left.mT
    return sign


def by_eigenvalues(X: Tensor, damping: Tensor, lower: float) -> Tensor:
    """The same in float32, with its precision."""
    eigenvalues, V = torch.linalg.eigh(X @ X.mT, UPLO="U")  # ascending; UPLO="L" is 10% slower
    P = V.mT @ X
    small = eigenvalues + damping[:, None] ** 2 < _SPLIT * eigenvalues[:, -1:]
    for index, count in enumerate(small.sum(dim=-1).tolist()):
        if count:
            _decompose_again(P[index : index + 1, :count], V[index : index + 1, :, :count])
    values = torch.linalg.vector_norm(P, dim=-1)
    P *= _inverse(values, damping, lower)[:, :, None]
    sign: Tensor = V.float() @ P.float()
    return sign


def _decompose_again(rows: Tensor, vectors: Tensor) -> None:
    """Make the smallest rows of `P` (1, count, n) orthogonal, and turn `V` (1, m, count) alike."""
    turn = torch.linalg.eigh(rows @ rows.mT).eigenvectors
    rows.copy_(turn.mT @ rows)
    vectors.copy_(vectors @ turn)


def _inverse(values: Tensor, damping: Tensor, lower: float) -> Tensor:
    """The factor from singular values (k, m) to their signs: `1 / hypot(value, damping)`."""
    floor = lower * torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    size = torch.hypot(values, damping[:, None]).maximum(floor)
    return size.clamp(min=_FLOAT64.tiny).reciprocal()
