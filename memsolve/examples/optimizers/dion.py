"""Dion: a low-rank Muon by power iteration with error feedback."""

import math
from typing import Any

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor
from torch.optim.optimizer import ParamsT

from memsolve.examples.optimizers.matrix_optimizer import MatrixOptimizer

EPS = 1e-8
"""Added to the norm of a column."""


class Dion(MatrixOptimizer):
    """Orthonormal updates of rank r, from one power iteration a step.

    With the buffer `B = M + G`, one iteration from the last right factor `Q` (n, r) gives `P =
    orthonormalize(B Q)` and `R = B^T P`; `P R^T` is nearly the best approximation of rank r. It
    leaves the buffer but for the share `momentum`, `M <- B - (1 - momentum) P R^T`, so that what
    the approximation misses returns in later steps. `Q <- R` with columns of norm one, and a step
    is `W <- W - lr sqrt(m / n) P Q^T`, of norm `lr sqrt(r)` for a square matrix.

    At full rank `P R^T` is the buffer, and `M` the momentum of Muon. The step is Muon's once the
    iteration has converged to the singular vectors, as it does while the buffer keeps its
    direction; in the first step it has not.

    Args:
        params: matrices (m, n), or groups of them.
        lr: learning rate.
        momentum: share of the approximation that stays in the buffer, in [0, 1).
        rank_fraction: `r / min(m, n)`, in (0, 1]; r is at least 1.
        seed: of the first `Q`, which is random.

    Source: Ahn, Xu, Abreu, Fan, Magakyan, Sharma, Zhan, Langford 2025 (arXiv 2504.05295).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        momentum: float = 0.95,
        rank_fraction: float = 1.0,
        seed: int = 0,
    ) -> None:
        settings = {"momentum": momentum, "rank_fraction": rank_fraction, "seed": seed}
        super().__init__(params, lr=lr, **settings)

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        super().check_group(group)
        if not 0 < group["rank_fraction"] <= 1:
            raise RangeError(
                f"rank_fraction is {group['rank_fraction']!r}; expected a number above 0, at most 1"
            )

    def step_matrix(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a matrix by a step on its gradient."""
        state = self.state[param]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(param)
            state["right"] = _random_factor(param, group["rank_fraction"], group["seed"])
        buffer = state["momentum_buffer"].add_(gradient)
        left = torch.linalg.qr(buffer @ state["right"]).Q
        right = buffer.T @ left
        buffer.sub_(left @ right.T, alpha=1 - group["momentum"])
        state["right"] = right / (right.norm(dim=0) + EPS)
        rows, columns = param.shape
        param.sub_(left @ state["right"].T, alpha=group["lr"] * math.sqrt(rows / columns))


def _random_factor(param: Tensor, fraction: float, seed: int) -> Tensor:
    """The first right factor (n, r), of normal numbers."""
    rows, columns = param.shape
    rank = max(1, round(fraction * min(rows, columns)))
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(columns, rank, generator=generator, dtype=torch.float64).to(param)
