"""Newton's method for the associative memory, without forming the Hessian."""

import math
import warnings
from collections.abc import Callable
from typing import Any, overload

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from memsolve.objective import Objective
from memsolve.optim.conjugate_gradients import conjugate_gradients
from memsolve.optim.line_search import backtrack
from memsolve.optim.shared import check_complete, check_finite, evaluate, new_group


class NoProgressWarning(RuntimeWarning):
    """A step that cannot decrease the loss, and is not taken."""


class Newton(Optimizer):
    """Newton's method for the associative memory, damped, without the Hessian as a matrix.

    A step is `W <- W - lr * X`, where `X` solves `H(X) + damping * mean(A) * C X = G`. `H` is the
    Hessian at `W`, `C` and `A` are its factors at `W = 0`, and `mean(A)` is the mean eigenvalue of
    `A`.

    At `W = 0`, `H` is exactly `X -> C X A` (derived), so the damped equation has the closed-form
    solution `C^-1 G (A + damping * mean(A) * I)^-1`. This step is taken without a line search, a
    product with the Hessian or a loss (measured: it decreases the loss for d = 4 to 128, alpha =
    1.1 to 3, batches from `d` draws to the population).

    At any other `W` the equation is solved by conjugate gradients. Their preconditioner is the
    closed form, with items weighted in `A` by their error `1 - p`, because items that are already
    stored have no curvature left. `lr` is then halved until the loss decreases. If it never does,
    as at a minimum, a NoProgressWarning is issued and the weight stays unchanged. A step that
    raises changes nothing.

    Args:
        params: matrices (d, d) whose `.grad` is the gradient of the objective's loss.
        objective: provides `loss(weight)`, `hvp(weight, direction)`, `curvature()` and
            `curvature(weight)` on the current batch.
        lr: learning rate; 1 is Newton's own step.
        damping: in units of `mean(A)`, at least 0. `A` of a batch with fewer than `d` distinct
            items is singular, so 0 is for the population only. A tiny value is best for capacity
            (measured: 0.1 of the median eigenvalue of `A` already costs up to 10% of the items at
            d = 64 to 256).
        tolerance: relative residual at which conjugate gradients stop, in (0, 1), in the norm of
            the preconditioner.
        max_iterations: maximum number of products with the Hessian in a step. Measured at the
            default tolerance, d = 32 and 64, alpha = 1.2 to 2: 1 to 12, and up to 50 in the second
            and third step.

    Raises:
        RangeError: a hyperparameter out of range.
        DtypeError: a DTensor.
    """

    def __init__(
        self,
        params: ParamsT,
        objective: Objective,
        *,
        lr: float = 1.0,
        damping: float = 1e-6,
        tolerance: float = 0.1,
        max_iterations: int = 50,
    ) -> None:
        settings = {"tolerance": tolerance, "max_iterations": max_iterations}
        super().__init__(params, {"lr": lr, "damping": damping, **settings})
        self.objective = objective

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyperparameters, as in every torch optimizer."""
        super().add_param_group(param_group)
        with new_group(self) as group:
            _check_group(group)
            check_complete(group)

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy or pickle; torch's own state lacks the objective."""
        return {**super().__getstate__(), "objective": self.objective}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load a state.

        Raises:
            RangeError: a hyperparameter that cannot be used; nothing has changed.
        """
        for group in state["param_groups"]:
            _check_group(group)
        super().__setstate__(state)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: evaluates the loss and the gradients, before the step.

        Returns:
            The loss of the closure; None without one.

        Warns:
            NoProgressWarning: the loss cannot be decreased along the step, which is not taken.

        Raises:
            InputError: a gradient that contains NaN or infinity, or hyperparameters that cannot be
                used; nothing has changed.
        """
        loss = evaluate(closure)
        for group in self.param_groups:
            _check_group(group)
            for index, param in enumerate(group["params"]):
                if param.grad is not None:
                    check_finite(param.grad, group, index)
        weights: dict[Tensor, Tensor] = {}
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    weights[param] = self._next_weight(param, param.grad, group)
        for param, weight in weights.items():
            param.copy_(weight)
        return loss

    def _next_weight(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """The weight after a step."""
        if not gradient.any():  # nothing is left to learn; the curvature may be zero, too
            _warn_of_no_progress(0.0)
            return weight
        outputs, inputs = self.objective.curvature()
        shift = group["damping"] * inputs.diagonal().mean()
        if not weight.any():
            return weight.sub(_solve(outputs, inputs, shift, gradient), alpha=group["lr"])

        unlearned = self.objective.curvature(weight).inputs
        step = conjugate_gradients(
            lambda matrix: self.objective.hvp(weight, matrix) + shift * (outputs @ matrix),
            lambda matrix: _solve(outputs, unlearned, shift, matrix),
            gradient,
            tolerance=group["tolerance"],
            max_iterations=group["max_iterations"],
        )
        slope = float(torch.sum(gradient * step))
        size = backtrack(
            lambda size: self.objective.loss(weight.sub(step, alpha=size)), slope, group["lr"]
        )
        if not size:
            _warn_of_no_progress(slope)
        return weight.sub(step, alpha=size)


def _check_group(group: dict[str, Any]) -> None:
    lr, damping, tolerance = group["lr"], group["damping"], group["tolerance"]
    if not 0 < lr < math.inf:
        raise RangeError(f"lr is {lr}; expected a finite number above 0")
    if not 0 <= damping < math.inf:
        raise RangeError(f"damping is {damping}; expected a finite number of at least 0")
    if not 0 < tolerance < 1:
        raise RangeError(f"tolerance is {tolerance}; expected a number between 0 and 1")
    if not group["max_iterations"] >= 1:
        raise RangeError(f"max_iterations is {group['max_iterations']}; expected at least 1")


def _warn_of_no_progress(predicted: float) -> None:
    warnings.warn(
        f"Newton's step cannot lower the loss (predicted: by {predicted:.1e}), so the weight is "
        "left as it is: it is at a minimum to rounding, or its gradient is not that of the loss",
        NoProgressWarning,
        stacklevel=4,
    )


def _solve(outputs: Tensor, inputs: Tensor, shift: Tensor, matrix: Tensor) -> Tensor:
    """`outputs^-1 matrix (inputs + shift I)^-1`."""
    identity = torch.eye(len(inputs), dtype=inputs.dtype, device=inputs.device)
    half = torch.linalg.solve(outputs, matrix)
    solution: Tensor = torch.linalg.solve(inputs + shift * identity, half, left=False)
    return solution
