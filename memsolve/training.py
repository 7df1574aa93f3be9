"""Training a memory for many steps, by any optimizer: one loop, for every study of many steps."""

import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from memsolve_kernels.errors import InputError, RangeError
from torch import Tensor
from torch.optim import Optimizer

from memsolve.objective import Objective
from memsolve.optim import NoProgressWarning
from memsolve.problem import Batch

Schedule = Literal["constant", "inverse", "cosine", "linear"]

Parameters = list[torch.nn.Parameter]
Build = Callable[[Parameters, Objective], Optimizer]
"""Makes the optimizer of one run. Only second-order methods look at the objective."""


class StepError(InputError):
    """An optimizer that failed in its step, or whose step is not finite."""


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the step size is multiplied with at `step`, from 0 to `steps - 1`.

    Raises:
        RangeError: an unknown schedule.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "inverse":
        return 1 / (1 + step)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * step / steps)) / 2
    if schedule == "linear":
        return 1 - step / steps
    raise RangeError(f"schedule is {schedule!r}; expected one of {get_args(Schedule)}")


@dataclass(frozen=True)
class State:
    """Where training is after a step.

    Attributes:
        step: how many steps were made, from 1.
        weight: (d, d), ready to be evaluated; the next step changes it.
        loss: of the weight before the step, on the batch of the step.
        seconds: that the step took, its gradient included.
    """

    step: int
    weight: Tensor
    loss: float
    seconds: float


def train(
    objective: Objective,
    build: Build,
    batches: Iterable[Batch],
    rates: Iterable[float | None],
) -> Iterator[State]:
    """Train from `W = 0`, one step a learning rate; ends early at a weight that is not finite.

    Gradients are the exact ones of each step's batch, without autograd. An optimizer whose `step`
    takes a closure gets one that evaluates loss and gradient wherever it has moved the weight; one
    with modes, as schedule-free ones have, is in `train` for its steps and in `eval` in between.

    Args:
        objective: of the memory; its batch is replaced at every step.
        build: makes the optimizer of one parameter (d, d).
        batches: one a step, asked for just before it, so that it may depend on the last state.
        rates: one a step; None leaves the optimizer's own.

    Raises:
        StepError: the optimizer has no learning rate, or raised.
    """
    weight = torch.nn.Parameter(torch.zeros_like(objective.memory.output_covariance))
    try:
        optimizer = build([weight], objective)
    except Exception as error:
        raise StepError(f"it cannot be made: {error}") from error
    takes_closure = "closure" in inspect.signature(optimizer.step).parameters
    for step, (batch, rate) in enumerate(zip(batches, rates, strict=False), start=1):
        start = time.perf_counter()
        objective.batch = batch
        evaluate = Evaluate(objective, weight, at_zero=step == 1)
        if rate is not None:
            _set_rate(optimizer, rate)
        try:
            _set_mode(optimizer, "train")
            loss = evaluate()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NoProgressWarning)  # the counts will show it
                optimizer.step(evaluate) if takes_closure else optimizer.step()
            _set_mode(optimizer, "eval")
        except Exception as error:
            raise StepError(f"its step failed: {error}") from error
        if not weight.isfinite().all():
            return
        yield State(step, weight.detach(), loss, time.perf_counter() - start)


class Evaluate:
    """Loss and gradient on the batch of the moment, where the weight is: the closure of a step.

    Args:
        objective: what is evaluated.
        weight: (d, d); its `grad` is set.
        at_zero: the weight is zero until the step changes it, and evaluated in closed form.
    """

    def __init__(self, objective: Objective, weight: Tensor, *, at_zero: bool) -> None:
        self._objective, self._weight = objective, weight
        memory, batch = objective.memory, objective.batch
        self._start = weight.detach().clone()
        if at_zero:
            self._gradient = objective.gradient_at_zero()
            self._loss = float(batch.weights.sum()) * math.log(memory.num_items)
        else:
            loss, self._gradient = memory.loss_and_gradient(self._start, batch)
            self._loss = float(loss)

    @torch.no_grad()
    def __call__(self) -> float:
        """The loss; nothing is computed again where the step began."""
        weight = self._weight
        if torch.equal(weight, self._start):
            weight.grad = self._gradient.clone()
            return self._loss
        objective = self._objective
        loss, weight.grad = objective.memory.loss_and_gradient(weight.detach(), objective.batch)
        return float(loss)


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise StepError("it has no `lr` in its param_groups, so its step size cannot be set")
        group["lr"] = rate


def _set_mode(optimizer: Optimizer, mode: str) -> None:
    """Switch an optimizer that has modes; torch's own have none."""
    switch = getattr(optimizer, mode, None)
    if callable(switch):
        switch()
