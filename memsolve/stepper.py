"""One optimizer at work on one weight, given what it asks for: closure, modes, graph, float32."""

import functools
import inspect
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.faults import StepError as StepError  # where the callers of a Stepper look for it
from memsolve.faults import attribute_errors
from memsolve.objective import Objective
from memsolve.optim import NoProgressWarning
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded

TRIAL_STEPS = 3
"""Some take no first step, and fail in the next."""

Parameters = list[torch.nn.Parameter]
Build = Callable[[Parameters, Objective], Optimizer]
"""Makes the optimizer of one run. Only second-order methods look at the objective."""


@dataclass(frozen=True)
class Manner:
    """How an optimizer must be treated; nothing declares it, so that its failures are asked.

    Attributes:
        graph: its gradients carry a graph, as after `loss.backward(create_graph=True)`.
        single: its weight and gradients are in float32, whatever the memory is in.
    """

    graph: bool = False
    single: bool = False

    def asked(self, error: Exception) -> Self | None:
        """The manner that a failure in this one asks for; None where it asks for nothing new."""
        words = str(error)
        if not self.graph and re.search("require grad|grad_fn|create_graph", words):
            return replace(self, graph=True)
        if not self.single and re.search("double|float64|float32|dtype", words, re.IGNORECASE):
            return replace(self, single=True)
        return None


class Stepper:
    """An optimizer and its weight (d, d), which starts at zero.

    An optimizer whose `step` takes a closure gets one that evaluates loss and gradient wherever it
    has moved the weight; one with modes, as schedule-free ones have, is in `train` for its steps
    and in `eval` in between.

    Args:
        objective: what it minimises, on the batch of the moment.
        build: makes the optimizer.
        manner: how it is treated.

    Raises:
        StepError: it cannot be made.
        MachineError: the machine failed meanwhile.
    """

    def __init__(self, objective: Objective, build: Build, manner: Manner) -> None:
        zero = torch.zeros_like(objective.memory.output_covariance)
        self._objective, self._graph = objective, manner.graph
        self._at_zero = True
        self.weight = torch.nn.Parameter(zero.float() if manner.single else zero)
        self._form = _form(self.weight)
        with attribute_errors("it cannot be made"):
            self.optimizer = build([self.weight], objective)
            self._holds = self._holds_weight()
        self._check()

    def step(self, rate: float | None) -> float:
        """Take a step at a learning rate, None for the optimizer's own; the loss before it.

        Raises:
            StepError: it has no learning rate, raised, or made another tensor of the weight.
            MachineError: the machine failed meanwhile.
        """
        evaluate = Evaluate(self._objective, self.weight, at_zero=self._at_zero, graph=self._graph)
        self._at_zero = False
        loss = advance(self.optimizer, evaluate, rate)
        self._check()
        return loss

    def _check(self) -> None:
        """Whether the weight is what it was, and where it was."""
        if (now := _form(self.weight)) != self._form:
            raise StepError(f"it has made the weight {_told(now)}; expected {_told(self._form)}")
        with attribute_errors("its step failed"):
            if self._holds and not self._holds_weight():
                raise StepError("it has replaced the weight in its param_groups by another tensor")

    def _holds_weight(self) -> bool:
        """Whether the weight is in the groups; not so of what steps a copy, and copies it back."""
        groups = self.optimizer.param_groups
        return any(param is self.weight for group in groups for param in group.get("params", ()))


Form = tuple[torch.Size, torch.dtype, torch.device, torch.layout]
"""What a step must leave as it is."""


def _form(weight: Tensor) -> Form:
    return weight.shape, weight.dtype, weight.device, weight.layout


def _told(form: Form) -> str:
    shape, *others = form
    return f"{tuple(shape)} of {', '.join(map(str, others))}"


def advance(optimizer: Optimizer, evaluate: Callable[[], Tensor], rate: float | None) -> float:
    """Take a step at a learning rate, None for the optimizer's own; the loss before it.

    Args:
        optimizer: what steps.
        evaluate: sets the gradients where the parameters are, and gives the loss, a scalar. It is
            handed on to what takes a closure, and costs nothing again where they have not moved.
        rate: of every group.

    Raises:
        StepError: it has no learning rate, or raised.
        MachineError: the machine failed meanwhile.
    """
    with attribute_errors("its step failed"):
        if rate is not None:
            _set_rate(optimizer, rate)
        takes = inspect.signature(optimizer.step).parameters
        closure = [evaluate] if "closure" in takes else []
        _set_mode(optimizer, "train")
        loss = float(evaluate().detach())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoProgressWarning)  # the counts will show it
            optimizer.step(*closure)  # type: ignore[arg-type]
        _set_mode(optimizer, "eval")
    return loss


def tiny_objective(device: str | torch.device, dtype: torch.dtype) -> Objective:
    """Of a memory on which steps cost nothing, to see how an optimizer behaves."""
    memory = AssociativeMemory(8, 4, 2.0, seed=0, device=device, dtype=dtype)
    return Objective(memory, memory.population())


@functools.lru_cache(maxsize=1024)
def manner_of(build: Build, device: torch.device, dtype: torch.dtype) -> Manner:
    """The manner in which an optimizer takes its first steps, found on a tiny memory."""
    objective = tiny_objective(device, dtype)
    asked: Manner | None = Manner()
    while asked is not None:
        manner = asked
        try:
            with seeded(device, 0):
                stepper = Stepper(objective, build, manner)
                for _ in range(TRIAL_STEPS):
                    stepper.step(None)
                    if not stepper.weight.isfinite().all():
                        break
            return manner
        except StepError as error:
            asked = manner.asked(error)
    return manner


class Evaluate:
    """Loss and gradient on the batch of the moment, where the weight is: the closure of a step.

    Gradients are exact, without autograd; but those with a graph, which is autograd's.

    Args:
        objective: what is evaluated.
        weight: (d, d); its `grad` is set.
        at_zero: the weight is zero until the step changes it, and evaluated in closed form.
        graph: the gradient can be differentiated again.
    """

    def __init__(self, objective: Objective, weight: Tensor, *, at_zero: bool, graph: bool) -> None:
        self._objective, self._weight = objective, weight
        self._at_zero, self._graph = at_zero, graph
        self._dtype = objective.memory.output_covariance.dtype
        self._place: Tensor | None = None  # where it was last evaluated

    def __call__(self) -> Tensor:
        """The loss, a scalar; without a graph nothing is computed again where it was just now."""
        weight = self._weight
        if self._graph:
            with torch.enable_grad():
                loss = self._objective.loss(weight.to(self._dtype))
                (weight.grad,) = torch.autograd.grad(loss, weight, create_graph=True)
            return loss
        if self._place is None or not torch.equal(weight, self._place):
            at_zero = self._at_zero and self._place is None
            self._loss, self._gradient = self._from_zero() if at_zero else self._evaluated()
            self._place = weight.detach().clone()
        weight.grad = self._gradient.clone().to(weight.dtype)
        return self._loss

    def _from_zero(self) -> tuple[Tensor, Tensor]:
        """In closed form."""
        memory, batch = self._objective.memory, self._objective.batch
        return batch.weights.sum() * math.log(memory.num_items), self._objective.gradient_at_zero()

    @torch.no_grad()
    def _evaluated(self) -> tuple[Tensor, Tensor]:
        memory, batch = self._objective.memory, self._objective.batch
        return memory.loss_and_gradient(self._weight.detach().to(self._dtype), batch)


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise StepError("it has no `lr` in its param_groups, so its step size cannot be set")
        group["lr"] = rate


def _set_mode(optimizer: Optimizer, mode: str) -> None:
    """Switch an optimizer that has modes; torch's own have none."""
    switch = getattr(optimizer, mode, None)
    try:
        if callable(switch):
            switch()
    except AttributeError as error:
        if f"attribute {mode!r}" not in str(error):  # else a wrapper's optimizer has no modes
            raise
