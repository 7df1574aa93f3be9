"""Conversion of a matrix of any shape and scale to a batch of wide ones of norm at most one."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """The blocks of `[G, damping I]`, scaled so that no singular value exceeds one.

    Attributes:
        X: (k, m, n), a multiple of `G`.
        Y: (k, m, m), the same multiple of `damping I`; None without damping.
    """

    X: Tensor
    Y: Tensor | None

    def to(self, dtype: torch.dtype) -> "Pair":
        """The pair with its blocks in `dtype`."""
        return Pair(self.X.to(dtype), None if self.Y is None else self.Y.to(dtype))


def fold(matrix: Tensor) -> Tensor:
    """Reshape (..., m, n) to one batch (k, min(m, n), max(m, n)): tall matrices are transposed."""
    rows, columns = matrix.shape[-2:]
    wide = matrix.mT.contiguous() if rows > columns else matrix
    return wide.reshape(matrix.shape[:-2].numel(), *wide.shape[-2:])


def unfold(folded: Tensor, matrix: Tensor) -> Tensor:
    """Undo `fold`: reshape `folded` to the shape of `matrix`."""
    rows, columns = matrix.shape[-2:]
    return (folded.mT if rows > columns else folded).reshape(matrix.shape)


def scale(matrix: Tensor, damping: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Divide each matrix (k, m, n) and the damping (k,) by the largest of its entries and damping.

    In `dtype`, at least as wide as the matrix's. Zero stays zero.
    """
    largest = matrix.abs().amax(dim=(-2, -1)).to(dtype).clamp(min=damping)
    largest = torch.where(largest == 0, 1, largest)
    # Torch would multiply a number by the reciprocal of a tensor.
    return matrix / largest[:, None, None], torch.full_like(largest, damping) / largest


def normalise(matrix: Tensor, damping: float, dtype: torch.dtype) -> tuple[Pair, Tensor]:
    """Scale `matrix` (k, m, n) and damping by a bound on the norm of `[matrix, damping I]`.

    The largest entry comes first and then the Frobenius norm, so that nothing overflows or
    underflows; in `dtype`, at least as wide as the matrix's. Zero stays zero.

    Returns:
        The pair, and a lower bound on the singular values of each matrix's pair (k,).
    """
    X, lower = scale(matrix, damping, dtype)
    norm = torch.hypot(torch.linalg.vector_norm(X, dim=(-2, -1)), lower)
    norm = torch.where(norm == 0, 1, norm)
    X, lower = (X / norm[:, None, None]).contiguous(), lower / norm
    if damping == 0:
        return Pair(X, None), lower
    identity = torch.eye(X.shape[-2], dtype=X.dtype, device=X.device)
    return Pair(X, identity * lower[:, None, None]), lower
