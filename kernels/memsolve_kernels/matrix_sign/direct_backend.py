"""The matrix sign by a decomposition in float64: on a CPU the fastest way, and the most exact.

A float64 matrix takes a singular value decomposition. Less precise ones leave room for that of
`X X^T = V W V^T`, which is cheaper: the rows of `P = V^T X` are as long as the singular values, and
`V` times those rows, each divided by its length, is the sign. Rounding turns two rows towards each
other by about `eps / (s t)`, where `s` and `t` are their singular values relative to the largest.
This only matters where both are small, so that the smallest rows are decomposed again, among
themselves.
"""

import torch
from torch import Tensor

from memsolve_kernels.matrix_sign.newton_schulz import fold, scale, unfold
from memsolve_kernels.matrix_sign.settings import Settings

_FLOAT64 = torch.finfo(torch.float64)
_SPLIT = 1e-10  # relative to the largest eigenvalue; what is smaller is decomposed again


class DirectBackend:
    """The sign by whichever decomposition is the faster at the accuracy promised for the dtype."""

    def check(self, settings: Settings, device: torch.device) -> None:
        """Nothing is refused: it serves where nothing is asked of an iteration."""

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
    left, values, right = torch.linalg.svd(X.mT, full_matrices=False)  # tall ones are the faster
    signs = values * _inverse(values, damping, lower)
    sign: Tensor = (right.mT * signs[:, None, :]) @ left.mT
    return sign


def by_eigenvalues(X: Tensor, damping: Tensor, lower: float) -> Tensor:
    """The same to float32's precision, and in float32."""
    eigenvalues, V = torch.linalg.eigh(X @ X.mT, UPLO="U")  # ascending; MKL's L takes 10% longer
    P = V.mT @ X
    small = eigenvalues + damping[:, None] ** 2 < _SPLIT * eigenvalues[:, -1:]
    if count := int(small.sum(dim=-1).max()):
        rows = P[:, :count]
        turn = torch.linalg.eigh(rows @ rows.mT).eigenvectors
        P[:, :count] = turn.mT @ rows
        V[:, :, :count] = V[:, :, :count] @ turn
    values = torch.linalg.vector_norm(P, dim=-1)
    P *= _inverse(values, damping, lower)[:, :, None]
    sign: Tensor = V.float() @ P.float()
    return sign


def _inverse(values: Tensor, damping: Tensor, lower: float) -> Tensor:
    """What takes singular values (k, m) to their sign: `1 / hypot(value, damping)`, bounded."""
    floor = lower * torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    size = torch.hypot(values, damping[:, None]).maximum(floor)
    return size.clamp(min=_FLOAT64.tiny).reciprocal()
