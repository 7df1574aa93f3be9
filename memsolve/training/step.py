"""One step of any optimizer: its closure, its learning rate and its modes."""

import inspect
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.optim import NoProgressWarning


class Closure:
    """Evaluates an objective at a weight and sets the weight's gradient.

    Gradients are exact and computed without autograd, unless they must carry a graph.

    Args:
        objective: the loss on the batch of the step.
        weight: (d, d); each call sets its `grad`.
        at_zero: the weight is zero until the step changes it; there the closed form is used.
        needs_graph: the gradient can be differentiated again.
    """

    def __init__(
        self, objective: Objective, weight: Tensor, *, at_zero: bool, needs_graph: bool
    ) -> None:
        self._objective, self._weight = objective, weight
        self._at_zero, self._needs_graph = at_zero, needs_graph
        self._dtype = objective.memory.dtype
        self._evaluated_at: Tensor | None = None

    def __call__(self) -> Tensor:
        """The loss, a scalar. Without a graph, nothing is computed twice at the same weight."""
        weight = self._weight
        if self._needs_graph:
            with torch.enable_grad():
                loss = self._objective.loss(weight.to(self._dtype))
                (weight.grad,) = torch.autograd.grad(loss, weight, create_graph=True)
            return loss
        if self._evaluated_at is None or not torch.equal(weight, self._evaluated_at):
            at_zero = self._at_zero and self._evaluated_at is None
            self._loss, self._gradient = self._evaluate_at_zero() if at_zero else self._evaluate()
            self._evaluated_at = weight.detach().clone()
        weight.grad = self._gradient.clone().to(weight.dtype)
        return self._loss

    def _evaluate_at_zero(self) -> tuple[Tensor, Tensor]:
        """Loss and gradient in closed form."""
        memory, batch = self._objective.memory, self._objective.batch
        return batch.weights.sum() * math.log(memory.num_items), self._objective.gradient_at_zero()

    @torch.no_grad()
    def _evaluate(self) -> tuple[Tensor, Tensor]:
        memory, batch = self._objective.memory, self._objective.batch
        return memory.loss_and_gradient(self._weight.detach().to(self._dtype), batch)


def take_step(optimizer: Optimizer, closure: Callable[[], Tensor], lr: float | None) -> float:
    """Take one step, and return the loss before it.

    Args:
        optimizer: takes the step. If it has `train` and `eval` modes, it is in `train` for the
            step and in `eval` afterwards.
        closure: sets the gradients at the current parameters and returns the loss, a scalar. It is
            called once before the step, and passed to an optimizer whose `step` takes a closure.
        lr: learning rate of every group; None keeps the optimizer's own.

    Raises:
        StepError: the optimizer has no learning rate.
        BaseException: whatever the optimizer raises.
    """
    if lr is not None:
        _set_lr(optimizer, lr)
    takes_closure = "closure" in inspect.signature(optimizer.step).parameters
    _set_mode(optimizer, "train")
    loss = float(closure().detach())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoProgressWarning)  # the results show it
        optimizer.step(*([closure] if takes_closure else []))  # type: ignore[arg-type]
    _set_mode(optimizer, "eval")
    return loss


def _set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise StepError("it has no `lr` in its param_groups, so its learning rate is fixed")
        group["lr"] = lr


def _set_mode(optimizer: Optimizer, mode: str) -> None:
    """Switch to a mode; torch's own optimizers have none."""
    switch = getattr(optimizer, mode, None)
    try:
        if callable(switch):
            switch()
    except AttributeError as error:
        if f"attribute {mode!r}" not in str(error):  # a wrapper of an optimizer without modes
            raise
