"""The tuning of learning rates: one rule and one budget for every optimizer and schedule."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memsolve.engine import Cell, Grid
from memsolve.engine.execution.memory_errors import sized_memory_errors
from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.optimizers.lr_behavior import builder_of_run, lr_behavior
from memsolve.optimizers.probe import PROBE_STEPS, probe
from memsolve.optimizers.registry import resolve
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded
from memsolve.study.memory import memory_of
from memsolve.study.training.search import round_lr
from memsolve.theory import weight_norm
from memsolve.training import Builder, Schedule, Trainer, mean_factor

SPREAD = 4.0
"""Ratio between neighbours among the first learning rates, and beyond an end."""

BUDGET = 5
"""Learning rates tried with each schedule, unless the user sets them."""

WIDENINGS = 4
"""Learning rates added at most while the best one is still the smallest or the largest."""

TUNING_SEEDS = range(1)
"""Of studies that tune on other seeds than those they report."""


def first_lrs(unit: float, schedule: Schedule, steps: int) -> list[float]:
    """The first three learning rates of a schedule: their means over the steps surround `unit`."""
    mean = mean_factor(schedule, steps)
    return [round_lr(unit / mean * spread) for spread in (1 / SPREAD, 1, SPREAD)]


def next_lr(lrs: Sequence[float], best: Callable[[Sequence[float]], float]) -> float:
    """The next learning rate to try: beyond an end if that is best, else next to the best one.

    Args:
        lrs: tried so far, increasing, at least two.
        best: returns the best of some of them.
    """
    index = lrs.index(best(lrs))
    if index == 0:
        return round_lr(lrs[0] / SPREAD)
    if index == len(lrs) - 1:
        return round_lr(lrs[-1] * SPREAD)
    neighbor = best([lrs[index - 1], lrs[index + 1]])
    return round_lr(math.sqrt(lrs[index] * neighbor))


def unit_lr(grid: Grid, optimizer: str, alpha: float, dim: int) -> float:
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


def _unit_lr(grid: Grid, cell: Cell) -> float:
    optimizer, dim = cell.optimizer, cell.dim
    memory = memory_of(grid, cell)
    build = resolve(grid.choices)[optimizer]
    build = builder_of_run(build, lr_behavior(build, grid.device, memory.dtype).schedule, 1.0)
    try:
        with seeded(grid.device, 0, dim):
            weight = first_moved_weight(memory, build)
    except StepError as error:
        raise StepError(f"optimizer {optimizer!r} cannot be trained with: {error}") from error
    if weight is None or not raises_first_logit(memory, weight):
        remark = probe(optimizer, grid.choices[optimizer], grid.device, memory.dtype)
        why = "NaN or infinity" if weight is None else remark
        raise StepError(
            f"optimizer {optimizer!r} does not raise the logit of the most frequent item in its "
            f"first step at a learning rate of 1{why and f' ({why})'}, so learning rates "
            "cannot be guessed: give them by --lrs (lrs)"
        )
    return weight_norm(dim, memory.num_items) / float(weight.norm())


def raises_first_logit(memory: AssociativeMemory, weight: Tensor) -> bool:
    """Whether a weight (d, d) gives the most frequent item a logit above the zero of `W = 0`."""
    first = torch.zeros(1, dtype=torch.int64, device=memory.device)
    return bool(memory.retrieval(weight, first).target_logit > 0)


def first_moved_weight(memory: AssociativeMemory, build: Builder) -> Tensor | None:
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
