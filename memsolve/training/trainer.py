"""Training a memory by any optimizer: one step at a time, on the batch of each step."""

import time
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.faults import StepError, attribute_errors
from memsolve.frequencies import Batch
from memsolve.objective import Objective
from memsolve.training.step import Closure, GroupLrs, take_step

HEADROOM = 2.0**20
"""Between the largest number and a weight's: its products with embeddings are sums."""

Parameters = list[torch.nn.Parameter]


@dataclass(frozen=True)
class OptimizerRequirements:
    """What an optimizer needs to step at all; see `memsolve.optimizers.requirements`.

    Attributes:
        needs_graph: gradients that carry a graph, as after `loss.backward(create_graph=True)`.
        needs_float32: weight and gradients in float32, whatever the dtype of the memory.
    """

    needs_graph: bool = False
    needs_float32: bool = False


class Builder(Protocol):
    """Builds the optimizer of one run, and knows its requirements."""

    def __call__(self, params: Parameters, objective: Objective, /) -> Optimizer:
        """Build the optimizer. Only second-order methods use the objective."""

    def requirements(self, device: torch.device, dtype: torch.dtype) -> OptimizerRequirements:
        """The requirements of the optimizer on a device, for a memory of a dtype."""


@dataclass(frozen=True)
class State:
    """Training after a step.

    Attributes:
        step: number of steps taken, from 1.
        weight: (d, d), in the dtype of the memory; the next step may change it in place.
        loss: on the batch of the step, at the weight before it.
        seconds: duration of the step, with its gradient.
    """

    step: int
    weight: Tensor
    loss: float
    seconds: float


class Trainer:
    """Trains one weight (d, d) from `W = 0` by one optimizer.

    An optimizer whose `step` takes a closure gets one that evaluates loss and gradient at the
    current weight. An optimizer with `train` and `eval` modes, such as a schedule-free one, is in
    `train` during its steps and in `eval` between them.

    Args:
        objective: the loss of a memory. Each step sets its batch, so that second-order methods see
            it. Trainers that share an objective share the gradient at `W = 0` on a batch.
        builder: builds the optimizer.
        requirements: of the optimizer (default: the builder's own).

    Attributes:
        objective: the loss, on the batch of the last step.
        optimizer: built by the builder.
        requirements: under which the optimizer runs.
        weight: (d, d), the parameter; in float32 if the optimizer needs that.
        lrs: learning rates of the optimizer's parameter groups.

    Raises:
        StepError: the optimizer cannot be made.
        MachineError: the machine failed meanwhile.
    """

    def __init__(
        self,
        objective: Objective,
        builder: Builder,
        requirements: OptimizerRequirements | None = None,
    ) -> None:
        memory = objective.memory
        zero = torch.zeros(memory.dim, memory.dim, dtype=memory.dtype, device=memory.device)
        if requirements is None:
            requirements = builder.requirements(zero.device, zero.dtype)
        self.objective, self.requirements = objective, requirements
        self.weight = torch.nn.Parameter(zero.float() if requirements.needs_float32 else zero)
        self._dtype, self._steps = zero.dtype, 0
        self._form = _form(self.weight)
        self._largest = torch.finfo(self.weight.dtype).max / HEADROOM
        with attribute_errors("it cannot be made"):
            self.optimizer = builder([self.weight], objective)
            self._holds_weight = self._is_weight_in_groups()
            self.lrs = GroupLrs(self.optimizer)
        self._check_weight()

    def step(self, batch: Batch, lr: float | None = None) -> State | None:
        """Take one step on a batch.

        Args:
            batch: of this step.
            lr: learning rate of the step, of the group with the largest if there are several (see
                `GroupLrs`); None keeps the optimizer's own.

        Returns:
            The state after the step. None if the weight has diverged: it is not finite, or so
            large that its logits might not be. No further step makes sense then.

        Raises:
            StepError: the optimizer has no learning rate, raised, or replaced the weight.
            MachineError: the machine failed meanwhile.
        """
        start = time.perf_counter()
        self.objective.batch = batch
        closure = Closure(
            self.objective,
            self.weight,
            at_zero=self._steps == 0,
            needs_graph=self.requirements.needs_graph,
        )
        self._steps += 1
        with attribute_errors("its step failed"):
            if lr is not None:
                self.lrs.set(lr)
            loss = take_step(self.optimizer, closure)
            self._check_weight()
            if self._holds_weight and not self._is_weight_in_groups():
                raise StepError("it has replaced the weight in its param_groups by another tensor")
        weight = self.weight.detach()
        if not float(weight.abs().max()) < self._largest:
            return None
        seconds = time.perf_counter() - start
        return State(self._steps, weight.to(self._dtype), loss, seconds)

    def _check_weight(self) -> None:
        if (form := _form(self.weight)) != self._form:
            raise StepError(
                f"it has made the weight {_format_form(form)}; expected {_format_form(self._form)}"
            )

    def _is_weight_in_groups(self) -> bool:
        """False for an optimizer that steps a copy and copies it back."""
        groups = self.optimizer.param_groups
        return any(param is self.weight for group in groups for param in group.get("params", ()))


def step_from_zero(objective: Objective, builder: Builder) -> Tensor:
    """The weight (d, d) after one step from `W = 0` on the batch of an objective.

    Raises:
        StepError: the optimizer raised (its own error is the cause), or made NaN or infinity.
    """
    state = Trainer(objective, builder).step(objective.batch)
    if state is None:
        raise StepError("its step made NaN or infinity")
    return state.weight


Form = tuple[torch.Size, torch.dtype, torch.device, torch.layout]
"""What a step must not change of a weight."""


def _form(weight: Tensor) -> Form:
    return weight.shape, weight.dtype, weight.device, weight.layout


def _format_form(form: Form) -> str:
    shape, *others = form
    return f"{tuple(shape)} of {', '.join(map(str, others))}"
