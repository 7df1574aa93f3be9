"""Newton-Muon: Muon on the gradient times the inverse second moment of the inputs."""

from typing import Any

import torch
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import matrix_sign
from torch import Tensor
from torch.optim.optimizer import ParamsT

from memsolve.checks import is_positive
from memsolve.examples.optimizers.matrix_optimizer import MatrixOptimizer
from memsolve.objective import Objective


class NewtonMuon(MatrixOptimizer):
    """Muon on `G (K + ridge mean(K) I)^-1`, where `K` is the second moment of the inputs.

    `K <- decay K + (1 - decay) A` is the running mean of the second moment `A = sum_b w_b u_b
    u_b^T` of the inputs of each batch, and `mean(K)` its mean eigenvalue. With the momentum `M <-
    momentum M + G (K + ridge mean(K) I)^-1`, a step is `W <- W - lr polar(M)`.

    It is not `memsolve.optim.WhitenedMuon`, whose step `polar(G T) T` with `T = S^(-1/2)` is Muon's
    in whitened inputs: it multiplies by `T` on both sides of the polar factor, and takes `S` over
    all items with equal weights. Nor does it leave the logits unchanged under a linear map of the
    inputs.

    The authors compute the inverse anew after every 32 steps; here every step does.

    Args:
        params: matrices (d, d) whose `.grad` is the gradient of the objective's loss.
        objective: provides `curvature()` on the current batch, whose `inputs` are `A`.
        lr: learning rate.
        momentum: decay of the momentum, in [0, 1).
        decay: of the running mean of the second moment, in [0, 1).
        ridge: in units of `mean(K)`, above 0: a batch with fewer than `d` items has a singular `A`.

    Source: Du, Su 2026 (arXiv 2604.01472); decay and ridge as in the authors' training script.
    """

    def __init__(
        self,
        params: ParamsT,
        objective: Objective,
        lr: float = 0.02,
        momentum: float = 0.95,
        decay: float = 0.95,
        ridge: float = 0.2,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, decay=decay, ridge=ridge)
        self.objective = objective

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        super().check_group(group)
        if not is_positive(group["ridge"]):
            raise RangeError(f"ridge is {group['ridge']!r}; expected a number above 0")

    def step_matrix(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a matrix by a step on its gradient."""
        inputs = self.objective.curvature().inputs.to(param)
        moment = self.running_mean(param, "input_moment", inputs, group["decay"]).clone()
        moment.diagonal().add_(group["ridge"] * moment.diagonal().mean())
        scaled = torch.cholesky_solve(gradient.T, torch.linalg.cholesky(moment)).T
        mean = self.running_mean(param, "momentum_buffer", scaled, group["momentum"])
        param.sub_(matrix_sign(mean), alpha=group["lr"])
