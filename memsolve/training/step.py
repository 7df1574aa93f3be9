"""One step of any optimizer: its closure, its learning rates and its modes."""

import inspect
import math
import warnings
from collections.abc import Callable
from numbers import Real

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


class GroupLrs:
    """The learning rates of an optimizer's parameter groups, whose ratios are kept.

    Args:
        optimizer: before its first step.

    Attributes:
        ratios: learning rate of each group, relative to the largest; 1 where there is none.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        lrs = self.current()
        largest = max((lr for lr in lrs if lr is not None), default=0.0)
        self.ratios = [1.0 if lr is None or lr == largest else lr / largest for lr in lrs]

    def current(self) -> list[float | None]:
        """The learning rate of each group; None where it has none that is a finite number."""
        lrs = [group.get("lr") for group in self._optimizer.param_groups]
        numbers = [float(lr) if isinstance(lr, Real | Tensor) else math.nan for lr in lrs]
        return [lr if math.isfinite(lr) else None for lr in numbers]

    def set(self, lr: float) -> None:
        """Set the largest learning rate to `lr`, and the others in their ratios to it.

        Raises:
            StepError: a group has no learning rate.
        """
        for index, group in enumerate(self._optimizer.param_groups):
            if "lr" not in group:
                raise StepError("it has no `lr` in its param_groups, so its learning rate is fixed")
            ratio = self.ratios[index] if index < len(self.ratios) else 1.0
            group["lr"] = lr * ratio


def take_step(optimizer: Optimizer, closure: Callable[[], Tensor]) -> float:
    """Take one step, and return the loss before it.

    Args:
        optimizer: takes the step. If it has `train` and `eval` modes, it is in `train` for the
            step and in `eval` afterwards.
        closure: sets the gradients at the current parameters and returns the loss, a scalar. It is
            called once before the step, and passed to an optimizer whose `step` takes a closure.

    Raises:
        BaseException: whatever the optimizer raises.
    """
    takes_closure = "closure" in inspect.signature(optimizer.step).parameters
    _set_mode(optimizer, "train")
    loss = float(closure().detach())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoProgressWarning)  # the results show it
        optimizer.step(*([closure] if takes_closure else []))  # type: ignore[arg-type]
    _set_mode(optimizer, "eval")
    return loss


def _set_mode(optimizer: Optimizer, mode: str) -> None:
    """Switch to a mode; torch's own optimizers have none."""
    switch = getattr(optimizer, mode, None)
    try:
        if callable(switch):
            switch()
    except AttributeError as error:
        if f"attribute {mode!r}" not in str(error):  # a wrapper of an optimizer without modes
            raise
