"""What a step of an optimizer costs beside one of SGD: time, and numbers kept."""

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from memsolve.faults import attribute_errors
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory
from memsolve.stepper import Build, Stepper, manner_of

ROUNDS, WARM = 9, 2
"""Steps that are timed, and those before them that are not."""


class Cost(NamedTuple):
    """What a step costs.

    Attributes:
        time: of a step, gradient on the population included, over that of SGD.
        state: numbers that the optimizer keeps from step to step, over those of the weight.
    """

    time: float
    state: float


def cost(memory: AssociativeMemory, build: Build, rate: float) -> Cost:
    """Steps of the optimizer and of SGD in turn, so that a busy moment falls on both.

    Args:
        memory: they are taken on.
        build: makes the optimizer.
        rate: its learning rate.

    Raises:
        StepError: it cannot be made, or raised.
    """
    mine, other = (stepper(memory, each) for each in (build, _sgd))
    turns = [(mine, rate), (other, 1.0)]
    ratios = []
    for turn in range(WARM + ROUNDS):
        seconds = {}
        for each, size in turns if turn % 2 else reversed(turns):
            start = time.perf_counter()
            each.step(size)
            _wait(memory)
            seconds[each] = time.perf_counter() - start
        ratios.append(seconds[mine] / seconds[other])
    with attribute_errors("its state cannot be counted"):
        kept = numbers(mine.optimizer.state)
    return Cost(float(np.median(ratios[WARM:])), kept / mine.weight.numel())


def stepper(memory: AssociativeMemory, build: Build) -> Stepper:
    """An optimizer at work on the population."""
    manner = manner_of(build, memory.inputs.device, memory.inputs.dtype)
    return Stepper(Objective(memory, memory.population()), build, manner)


def numbers(state: object) -> int:
    """How many numbers the tensors of a state hold, however it nests them."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, Mapping):
        return sum(map(numbers, state.values()))
    if isinstance(state, Iterable) and not isinstance(state, str | bytes):
        return sum(map(numbers, state))
    return 0


def _sgd(params: list[torch.nn.Parameter], objective: Objective) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=1.0)


def _wait(memory: AssociativeMemory) -> None:
    """Until a GPU has done what it was given."""
    if memory.inputs.is_cuda:
        torch.cuda.synchronize(memory.inputs.device)
