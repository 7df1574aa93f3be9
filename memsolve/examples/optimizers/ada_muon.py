"""AdaMuon: the polar factor of the signs of the momentum, scaled entry by entry."""

import math
from typing import Any

from memsolve_kernels.matrix_sign import matrix_sign
from torch import Tensor
from torch.optim.optimizer import ParamsT

from memsolve.examples.optimizers.matrix_optimizer import MatrixOptimizer

RMS = 0.2
"""Root mean square of an update's entries, as of Adam's."""


class AdaMuon(MatrixOptimizer):
    """Muon on the signs of the momentum, with a second moment for each entry of its update.

    With the momentum `M <- momentum M + G`, the update is `O = polar(sign(M))`, its second moment
    `V <- momentum V + (1 - momentum) O * O`, and the scaled update `S = O / (sqrt(V) + eps)`. A
    step is `W <- W - lr 0.2 sqrt(m n) / |S| S`, so that the entries of a step have the root mean
    square `0.2 lr`.

    `pytorch_optimizer.AdaMuon` is the first version of the paper, without the signs.

    Args:
        params: matrices (m, n), or groups of them.
        lr: learning rate.
        momentum: decay of both means, in [0, 1).
        eps: added to the denominator.

    Source: Si, Zhang, Shen 2025 (arXiv 2507.11005, third version).
    """

    def __init__(
        self, params: ParamsT, lr: float = 0.02, momentum: float = 0.95, eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, eps=eps)

    def step_matrix(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a matrix by a step on its gradient."""
        decay = group["momentum"]
        mean = self.running_mean(param, "momentum_buffer", gradient, decay)
        update = matrix_sign(mean.sign())  # a positive factor of the mean changes no sign
        second = self.running_mean(param, "second_moment", update.square(), decay)
        update = update / (second.sqrt() + group["eps"])
        norm = float(update.norm())
        if norm:
            param.sub_(update, alpha=group["lr"] * RMS * math.sqrt(param.numel()) / norm)
