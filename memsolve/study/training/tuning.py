"""How step sizes are tuned: by one rule, with one budget, for every optimizer and schedule."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from torch import Tensor

from memsolve.engine import Cell
from memsolve.engine.execution.memory_errors import sized_memory_errors
from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.optimizers.probe import PROBE_STEPS, probe
from memsolve.optimizers.registry import resolve
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded
from memsolve.study.memory import memory_of
from memsolve.study.training.grid import TrainingGrid
from memsolve.theory import weight_norm
from memsolve.training import Builder, Schedule, Trainer, schedule_factor

SPREAD = 4.0
"""Between neighbours of the step sizes that are tried first, and beyond an end."""

BUDGET = 5
"""How many step sizes each schedule is tried with, unless they are given."""

WIDENINGS = 4
"""How many more where the best of them is still the smallest or the largest."""


Candidate = tuple[Schedule, float]
"""A schedule and a step size."""


class Selection(NamedTuple):
    """The schedule and step size that serve best at a place.

    Attributes:
        schedule, lr: of the chosen trial.
        edge: it is the smallest or largest step size tried with its schedule, even after widening.
    """

    schedule: Schedule
    lr: float
    edge: bool

    @classmethod
    def of(cls, best: Candidate, sizes: Mapping[Schedule, Sequence[float]]) -> Self:
        """The best of what was tried, given the step sizes of each schedule, increasing."""
        schedule, size = best
        ends = sizes[schedule][0], sizes[schedule][-1]
        return cls(schedule, size, edge=size in ends and ends[0] < ends[1])


def first_lrs(unit: float, schedule: Schedule, steps: int) -> list[float]:
    """The three to begin with: their means over the steps are a `SPREAD` apart around `unit`."""
    mean = sum(schedule_factor(schedule, step, steps) for step in range(steps)) / steps
    return [readable(unit / mean * spread) for spread in (1 / SPREAD, 1, SPREAD)]


def next_lr(tried: Sequence[float], best: Callable[[Sequence[float]], float]) -> float:
    """The step size to try next: beyond an end if that is best, else beside the best one.

    Args:
        tried: those tried so far, increasing, at least two.
        best: the best of some of them.
    """
    place = tried.index(best(tried))
    if place == 0:
        return readable(tried[0] / SPREAD)
    if place == len(tried) - 1:
        return readable(tried[-1] * SPREAD)
    return readable(math.sqrt(tried[place] * best([tried[place - 1], tried[place + 1]])))


def unit_lr(grid: TrainingGrid, optimizer: str, alpha: float, dim: int) -> float:
    """The learning rate whose first step has the norm of a weight that stores all that `d` can.

    That norm is `theory.weight_norm`, whatever units the optimizer counts its steps in. The step is
    on the population gradient of seed 0. An optimizer such as SOAP, which takes no step at first,
    is measured by the first that it takes.

    Raises:
        StepError: there is no such learning rate.
        MachineError: the machine failed meanwhile.
    """
    cell = Cell(optimizer, alpha, dim, grid.items_of(dim), None, 0)
    with sized_memory_errors(
        grid, cell, f"optimizer {optimizer!r} cannot be tuned at alpha = {alpha:g}"
    ):
        return _unit_lr(grid, cell)


def _unit_lr(grid: TrainingGrid, cell: Cell) -> float:
    optimizer, dim = cell.optimizer, cell.dim
    memory = memory_of(grid, cell)
    build = resolve(grid.choices)[optimizer]
    try:
        with seeded(grid.device, 0, dim):
            weight = _first_moved_weight(memory, build)
    except StepError as error:
        raise StepError(f"optimizer {optimizer!r} cannot be trained with: {error}") from error
    if weight is None or not memory.outputs[0] @ weight @ memory.inputs[0] > 0:
        remark = probe(optimizer, grid.choices[optimizer], grid.device, memory.inputs.dtype)
        why = "NaN or infinity" if weight is None else remark
        raise StepError(
            f"optimizer {optimizer!r} does not raise the logit of the most frequent item in its "
            f"first step at a learning rate of 1{why and f' ({why})'}, so learning rates "
            "cannot be guessed: give them by --lrs (lrs)"
        )
    return weight_norm(dim, memory.num_items) / float(weight.norm())


def _first_moved_weight(memory: AssociativeMemory, build: Builder) -> Tensor | None:
    """The weight after the first step that moves it, if any; None if the first step diverged."""
    batch = memory.population()
    trainer = Trainer(Objective(memory, batch), build)
    weight = None
    for _ in range(PROBE_STEPS):
        state = trainer.step(batch, 1.0)
        if state is None:
            break
        weight = state.weight
        if weight.any():
            break
    return weight


def readable(lr: float) -> float:
    """Two digits of it, as a person would write it."""
    return float(f"{lr:.1e}")


def lrs_by_schedule(tried: Iterable[Candidate]) -> dict[Schedule, list[float]]:
    """The step sizes that each schedule was tried with, increasing."""
    found: dict[Schedule, list[float]] = {}
    for schedule, size in sorted(set(tried)):
        found.setdefault(schedule, []).append(size)
    return found


def off_middle(sizes: Sequence[float], size: float) -> float:
    """How many places a step size stands from the middle of those tried."""
    return abs(sizes.index(size) - (len(sizes) - 1) / 2)
