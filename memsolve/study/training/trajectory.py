"""One training run, evaluated on all items after every step."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from memsolve import theory
from memsolve.engine import Cell
from memsolve.faults import StepError
from memsolve.frequencies import Batch
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory
from memsolve.recall import Recall
from memsolve.study.training.grid import GradientKind, TrainingGrid, Trial
from memsolve.training import Builder, State, Trainer, lr_of_step

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Trajectory:
    """The outcome of a run, step by step; shorter than the grid's steps if it ended early.

    Attributes:
        recovered: items recovered, of all `N`, after each step.
        top_rank: highest recovered rank after each step.
        loss: on the batch of each step, at the weight before it.
        seconds: median time of a step, without its evaluation; NaN if none was taken, or others
            ran beside it.
        marks: steps after which margins were measured: powers of two, and the last.
        margins: at each mark, quantiles (5, 25, 50, 75 and 95%) of the margins of the most
            frequent items, as many as a weight can store (`theory.limit`).
        failed: why a step failed, which ended the run; empty if none did.
        diverged: whether the run ended because a weight was not finite, or too large for its
            logits to be.
    """

    recovered: list[int]
    top_rank: list[int]
    loss: list[float]
    seconds: float
    marks: list[int]
    margins: list[list[float]]
    failed: str = ""
    diverged: bool = False

    @property
    def complete(self) -> bool:
        """Whether the run took all its steps."""
        return not (self.failed or self.diverged)

    def after(self, steps: int) -> Self:
        """The first steps of the run; the whole run if it ended earlier."""
        if len(self.recovered) < steps:
            return self
        first = {name: getattr(self, name)[:steps] for name in ("recovered", "top_rank", "loss")}
        return replace(self, **first, failed="", diverged=False)


Trajectories = Mapping[Trial, Trajectory]


def walk(
    memory: AssociativeMemory, build: Builder, cell: Trial, steps: int, gradient: GradientKind
) -> Iterator[tuple[State, Recall]]:
    """The state after each step of a trial, with the recall of all items; ends if it diverges."""
    trainer = Trainer(Objective(memory, memory.population()), build)
    recovered = torch.zeros(memory.num_items, dtype=torch.bool, device=memory.device)
    for step in range(steps):
        batch = batch_of_step(memory, cell, step)
        if gradient == "thresholded":
            batch = remaining(batch, recovered)
        state = trainer.step(batch, lr_of_step(cell.schedule, cell.lr, step, steps, cell.ratio))
        if state is None:
            return
        recall = memory.recall(state.weight)
        recovered = recall.recovered
        yield state, recall


def marks_of(steps: int) -> list[int]:
    """Steps after which margins are measured: powers of two, and the last."""
    return sorted({*(2**k for k in range(steps.bit_length())), steps})


def trajectory(
    grid: TrainingGrid, memory: AssociativeMemory, build: Builder, cell: Trial
) -> Trajectory:
    """A run, evaluated on all items after every step."""
    marks = marks_of(grid.steps)
    run = Trajectory([], [], [], math.nan, [], [])
    seconds = []
    try:
        for state, recall in walk(memory, build, cell, grid.steps, grid.gradient):
            run.recovered.append(recall.count)
            run.top_rank.append(recall.top_rank())
            run.loss.append(state.loss)
            seconds.append(state.seconds)
            if state.step in marks:
                run.marks.append(state.step)
                run.margins.append(margins(memory, state.weight))
    except StepError as error:
        run = replace(run, failed=str(error))
    else:
        run = replace(run, diverged=len(run.recovered) < grid.steps)
    return replace(run, seconds=float(np.median(seconds))) if seconds else run


def batch_of_step(memory: AssociativeMemory, cell: Cell, step: int) -> Batch:
    """The batch of a step, the same for every optimizer and trial; without a size, all items."""
    if cell.batch_size is None:
        return memory.population()
    entropy = [cell.seed, cell.dim, cell.batch_size, step]
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return memory.sample(cell.batch_size, torch.Generator().manual_seed(int(state)))


def remaining(batch: Batch, recovered: torch.Tensor) -> Batch:
    """The items of a batch that are not recovered, with their weights: the paper's threshold."""
    left = ~recovered[batch.items]
    return Batch(batch.items[left], batch.weights[left])


def margins(memory: AssociativeMemory, weight: torch.Tensor) -> list[float]:
    """`QUANTILES` of the margins of the most frequent items, as many as `theory.limit`."""
    count = min(memory.num_items, math.ceil(theory.limit(memory.dim, memory.num_items)))
    items = torch.arange(count, device=memory.device)
    margin = memory.retrieval(weight, items).margin
    levels = torch.tensor(QUANTILES, dtype=margin.dtype, device=margin.device)
    return [float(quantile) for quantile in torch.quantile(margin, levels)]
