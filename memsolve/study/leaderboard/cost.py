"""The cost of a step, relative to one of SGD: time, and state."""

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from memsolve.faults import attribute_errors
from memsolve.objective import Objective
from memsolve.optimizers.registry import builder
from memsolve.problem import AssociativeMemory
from memsolve.training import Builder, Trainer

ROUNDS, WARM = 9, 2
"""Steps that are timed, and untimed ones before them."""


class Cost(NamedTuple):
    """The cost of a step.

    Attributes:
        time: of a step with its gradient on the population, relative to SGD.
        state: numbers that the optimizer keeps between steps, relative to those of the weight.
    """

    time: float
    state: float


def cost(memory: AssociativeMemory, build: Builder, lr: float) -> Cost:
    """Time steps of the optimizer and of SGD in turn, so that other load falls on both.

    Args:
        memory: the steps are on its population.
        build: builds the optimizer.
        lr: its learning rate.

    Raises:
        StepError: it cannot be made, or raised.
    """
    batch = memory.population()
    mine, sgd = (Trainer(Objective(memory, batch), each) for each in (build, builder("sgd")))
    turns = [(mine, lr), (sgd, 1.0)]
    ratios = []
    for turn in range(WARM + ROUNDS):
        seconds = {}
        for trainer, lr_of_trainer in turns if turn % 2 else reversed(turns):
            start = time.perf_counter()
            trainer.step(batch, lr_of_trainer)
            _wait(memory)
            seconds[trainer] = time.perf_counter() - start
        ratios.append(seconds[mine] / seconds[sgd])
    with attribute_errors("its state cannot be counted"):
        kept = numbers(mine.optimizer.state)
    return Cost(float(np.median(ratios[WARM:])), kept / mine.weight.numel())


def numbers(state: object) -> int:
    """How many numbers the tensors of a state hold, however it nests them."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, Mapping):
        return sum(map(numbers, state.values()))
    if isinstance(state, Iterable) and not isinstance(state, str | bytes):
        return sum(map(numbers, state))
    return 0


def _wait(memory: AssociativeMemory) -> None:
    """Wait until a GPU has finished."""
    if memory.device.type == "cuda":
        torch.cuda.synchronize(memory.device)
