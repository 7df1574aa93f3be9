"""KL-SOAP: Adam in the eigenbasis of two factors that minimize a Kullback-Leibler divergence."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from memsolve.examples.optimizers.matrix_optimizer import MatrixOptimizer
from memsolve.optim.shared import check_range

INITIAL_EIGENVALUE = 0.1
"""Of both factors, before their first update."""


class KLSOAP(MatrixOptimizer):
    """SOAP whose factors each take the other one into account, with a new basis in every step.

    `S_a` (m, m) and `S_b` (n, n) are estimates of the second moment `S_a x S_b` of the gradients
    that minimize the Kullback-Leibler divergence of normal distributions:
    `S_a <- beta2 S_a + (1 - beta2) G S_b^-1 G^T / n`, and likewise `S_b <- beta2 S_b + (1 - beta2)
    G^T S_a^-1 G / m`. Their inverses are those of `Q_a diag(l_a) Q_a^T` and `Q_b diag(l_b) Q_b^T`:
    the bases `Q` follow by one power iteration, `Q <- orthonormalize(S Q)`, and the eigenvalues by
    `l_a <- beta2 l_a + (1 - beta2) diag(Q_a^T G S_b^-1 G^T Q_a) / n`.

    A step is Adam's, without bias correction, on `Q_a^T G Q_b`, turned back. As SOAP it takes none
    at first, where the bases come from the first gradient.

    Args:
        params: matrices (m, n), or groups of them.
        lr: learning rate.
        betas: decays of the first moment, and of the second moment and the factors, in [0, 1).
        eps: added to Adam's denominator.

    Source: Lin, Lowe, Dangel, Eschenhagen, Xu, Grosse 2025 (arXiv 2509.03378). The first
    eigenvalues and their bound, `max(10, min(size, 4000))^-2`, are those of the authors' code.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        check_range("lr", group["lr"], float("inf"))
        for index, beta in enumerate(group["betas"]):
            check_range(f"betas[{index}]", beta, 1.0)

    def step_matrix(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a matrix by a step on its gradient; the first one sets the bases alone."""
        beta1, beta2 = group["betas"]
        state = self.state[param]
        if not state:
            self._initialize(param, gradient, beta2)
            return
        basis_a, basis_b = state["bases"]
        turned = basis_a.T @ gradient @ basis_b
        mean = self.running_mean(param, "first_moment", gradient, beta1)
        second = self.running_mean(param, "second_moment", turned.square(), beta2)
        update = (basis_a.T @ mean @ basis_b) / (second.sqrt() + group["eps"])
        param.sub_(basis_a @ update @ basis_b.T, alpha=group["lr"])
        self._update_factors(param, gradient, turned, beta2)

    def _initialize(self, param: Tensor, gradient: Tensor, beta2: float) -> None:
        """Factors as of SOAP, with their eigenvectors; the eigenvalues are constants."""
        rows, columns = gradient.shape
        factors = gradient @ gradient.T / columns, gradient.T @ gradient / rows
        self.state[param].update(
            factors=[(1 - beta2) * factor for factor in factors],
            bases=[torch.linalg.eigh(factor).eigenvectors.flip(1) for factor in factors],
            eigenvalues=[gradient.new_full((size,), INITIAL_EIGENVALUE) for size in param.shape],
        )

    def _update_factors(
        self, param: Tensor, gradient: Tensor, turned: Tensor, beta2: float
    ) -> None:
        """Update factors, eigenvalues and bases by a gradient, `turned` into the bases."""
        state = self.state[param]
        (basis_a, basis_b), (values_a, values_b) = state["bases"], state["eigenvalues"]
        halves = (gradient @ basis_b) / values_b.sqrt(), (gradient.T @ basis_a) / values_a.sqrt()
        diagonals = (turned.square() / values_b).mean(1), (turned.square().T / values_a).mean(1)
        for factor, half in zip(state["factors"], halves, strict=True):
            factor.lerp_(half @ half.T / half.shape[1], 1 - beta2)
        state["eigenvalues"] = [
            torch.lerp(values, diagonal, 1 - beta2).clamp(min=_least(len(values)))
            for values, diagonal in zip(state["eigenvalues"], diagonals, strict=True)
        ]
        state["bases"] = [
            torch.linalg.qr(factor @ basis).Q
            for factor, basis in zip(state["factors"], state["bases"], strict=True)
        ]


def _least(size: int) -> float:
    """The least eigenvalue of a factor of a size."""
    return float(max(10, min(size, 4000))) ** -2
