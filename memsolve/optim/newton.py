"""Newton's method for the associative memory, from `W = 0`."""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor
from torch.optim import Optimizer

from memsolve.problem import Curvature


class Newton(Optimizer):
    """One Newton step is `W <- W - lr * C^-1 G (A + damping * mean_eigenvalue(A) * I)^-1`.

    `C` and `A` are the factors of the Hessian at `W = 0`, where this is Newton's method exactly
    (derived: the Hessian there is `D -> C D A`). At another `W` it is Newton's method with the
    Hessian frozen at zero.

    Args:
        params: matrices (d, d) whose `.grad` is the gradient of the loss.
        curvature: called at every step, for the batch of that step; gives `C` (d, d) and `A`
            (d, d). For a memory and one batch it is `lambda: memory.curvature(batch)`.
        lr: step size; 1 is Newton's own.
        damping: relative to the mean eigenvalue of `A`, at least 0. `A` of a batch with fewer
            than `d` distinct items is singular, so 0 only serves the population. A tiny value
            is the best for capacity (measured: 0.1 of the median eigenvalue of `A` already
            costs up to 10% of the items at d = 64 to 256).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        curvature: Callable[[], Curvature],
        *,
        lr: float = 1.0,
        damping: float = 1e-6,
    ) -> None:
        if not 0 < lr < float("inf"):
            raise RangeError(f"lr is {lr}; expected a finite number above 0")
        if not 0 <= damping < float("inf"):
            raise RangeError(f"damping is {damping}; expected a finite number of at least 0")
        super().__init__(params, {"lr": lr, "damping": damping})
        self.curvature = curvature

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; returns the loss of `closure`, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        outputs, inputs = self.curvature()
        for group in self.param_groups:
            damped = inputs + group["damping"] * inputs.diagonal().mean() * torch.eye(
                len(inputs), dtype=inputs.dtype, device=inputs.device
            )
            for param in group["params"]:
                if param.grad is not None:
                    step = torch.linalg.solve(outputs, param.grad)
                    step = torch.linalg.solve(damped, step, left=False)
                    param.sub_(step, alpha=group["lr"])
        return loss
