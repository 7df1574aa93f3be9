"""Matrices with a given spectrum, and distances between matrices."""

import torch
from torch import Tensor


def with_spectrum(values: Tensor, shape: tuple[int, int], seed: int = 0) -> Tensor:
    """A float64 matrix (m, n) with these min(m, n) singular values; its singular vectors are the
    same for every spectrum."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
        for n in shape
    )
    rank = len(values)
    matrix: Tensor = (left[:, :rank] * values.double()) @ right[:, :rank].T
    return matrix


def relative_error(ours: Tensor, truth: Tensor) -> float:
    return float((ours.double() - truth).norm() / truth.norm())


def spectral_norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, ord=2))
