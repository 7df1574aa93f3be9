"""Training a memory for many steps, by any optimizer: one loop, for every study of many steps."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor

from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.problem import Batch
from memsolve.stepper import Build, Stepper, manner_of

ROOM = 2.0**20
"""Between the largest number and a weight's: its products with embeddings are sums."""

Schedule = Literal["constant", "inverse", "cosine", "linear"]


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
        single: the optimizer works in float32, because it asked for it.
    """

    step: int
    weight: Tensor
    loss: float
    seconds: float
    single: bool = False


def train(
    objective: Objective,
    build: Build,
    batches: Iterable[Batch],
    rates: Iterable[float | None],
) -> Iterator[State]:
    """Train from `W = 0`, one step a learning rate; ends early at a weight that has diverged.

    That is one that is not finite, or so large that its logits might not be.

    Args:
        objective: of the memory; its batch is replaced at every step.
        build: makes the optimizer of one parameter (d, d).
        batches: one a step, asked for just before it, so that it may depend on the last state.
        rates: one a step; None leaves the optimizer's own.

    Raises:
        StepError: the optimizer cannot be made, has no learning rate, or raised.
    """
    zero = objective.memory.output_covariance
    manner = manner_of(build, zero.device, zero.dtype)
    stepper = Stepper(objective, build, manner)
    largest = torch.finfo(stepper.weight.dtype).max / ROOM
    for step, (batch, rate) in enumerate(zip(batches, rates, strict=False), start=1):
        start = time.perf_counter()
        objective.batch = batch
        loss = stepper.step(rate)
        weight = stepper.weight.detach()
        if not float(weight.abs().max()) < largest:
            return
        seconds = time.perf_counter() - start
        yield State(step, weight.to(zero.dtype), loss, seconds, manner.single)


def step_from_zero(objective: Objective, build: Build) -> Tensor:
    """The weight (d, d) after one step from `W = 0` on the batch of an objective.

    Raises:
        StepError: the optimizer raised (its own error is the cause), or made NaN or infinity.
    """
    for state in train(objective, build, [objective.batch], [None]):
        return state.weight
    raise StepError("its step made NaN or infinity")
