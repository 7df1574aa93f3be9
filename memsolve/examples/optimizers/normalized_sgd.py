"""Normalized SGD with momentum."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from memsolve.examples.optimizers.matrix_optimizer import MatrixOptimizer


class NormalizedSGD(MatrixOptimizer):
    """A step of norm `lr` along the running mean of the gradients.

    A step is `W <- W - lr M / |M|` with `M <- momentum M + (1 - momentum) G` and the Frobenius norm
    of each matrix. It depends on the scale of the gradients only through the momentum, where they
    weigh in proportion to their norms. A zero mean takes no step.

    Args:
        params: matrices, or groups of them.
        lr: norm of a step.
        momentum: decay of the running mean, in [0, 1).

    Source: Hazan, Levy, Shalev-Shwartz 2015 (arXiv 1507.02030); with momentum, Cutkosky and Mehta
    2020 (arXiv 2002.03305).
    """

    def __init__(self, params: ParamsT, lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(params, lr=lr, momentum=momentum)

    def step_matrix(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a matrix by a step on its gradient."""
        mean = self.running_mean(param, "momentum_buffer", gradient, group["momentum"])
        norm = float(mean.norm())
        if norm:
            param.sub_(mean, alpha=group["lr"] / norm)
