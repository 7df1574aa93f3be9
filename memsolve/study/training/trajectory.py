"""One training run, evaluated on all items after every step."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from memsolve_kernels import retrieval

from memsolve import theory
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory, Batch
from memsolve.recall import Recall
from memsolve.stepper import Build, StepError
from memsolve.study.training.grid import TrainingGrid, Trial
from memsolve.training import State, factor, train

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Trajectory:
    """The outcome of a run, step by step; shorter than the grid's steps if it ended early.

    Attributes:
        recovered: items recovered, of all `N`, after each step.
        top_rank: highest recovered rank after each step.
        loss: on the batch of each step, at the weight before it.
        seconds: median time of a step, without its evaluation.
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
    grid: TrainingGrid, memory: AssociativeMemory, build: Build, cell: Trial
) -> Iterator[tuple[State, Recall]]:
    """A trial step by step, with the recall of all items after each."""
    stored = torch.zeros(memory.num_items, dtype=torch.bool, device=memory.inputs.device)

    def batches() -> Iterator[Batch]:
        for step in range(grid.steps):
            batch = batch_of_step(memory, cell, step)
            yield remaining(batch, stored) if grid.gradient == "thresholded" else batch

    rates = [cell.lr * factor(cell.schedule, step, grid.steps) for step in range(grid.steps)]
    for state in train(Objective(memory, memory.population()), build, batches(), rates):
        recall = memory.recall(state.weight)
        stored = recall.recovered
        yield state, recall


def marks_of(steps: int) -> list[int]:
    """Steps after which margins are measured: powers of two, and the last."""
    return sorted({*(2**k for k in range(steps.bit_length())), steps})


def trajectory(
    grid: TrainingGrid, memory: AssociativeMemory, build: Build, cell: Trial
) -> Trajectory:
    """One whole run, evaluated on all items after every step."""
    steps = grid.steps
    marks = marks_of(steps)
    found = Trajectory([], [], [], math.nan, [], [])
    seconds = []
    try:
        for state, recall in walk(grid, memory, build, cell):
            found.recovered.append(recall.count)
            found.top_rank.append(recall.top_rank())
            found.loss.append(state.loss)
            seconds.append(state.seconds)
            if state.step in marks:
                found.marks.append(state.step)
                found.margins.append(margins(memory, state.weight))
    except StepError as error:
        found = replace(found, failed=str(error))
    else:
        found = replace(found, diverged=len(found.recovered) < steps)
    return replace(found, seconds=float(np.median(seconds))) if seconds else found


def batch_of_step(memory: AssociativeMemory, cell: Trial, step: int) -> Batch:
    """The batch of a step: the same for every optimizer and trial; else the population."""
    if cell.batch_size is None:
        return memory.population()
    entropy = [cell.seed, cell.dim, cell.batch_size, step]
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return memory.sample(cell.batch_size, torch.Generator().manual_seed(int(state)))


def remaining(batch: Batch, stored: torch.Tensor) -> Batch:
    """The items of a batch that are not stored yet, with their weights: the paper's threshold."""
    left = ~stored[batch.items]
    return Batch(batch.items[left], batch.weights[left])


def margins(memory: AssociativeMemory, weight: torch.Tensor) -> list[float]:
    """`QUANTILES` of the margins of the most frequent items, as many as `theory.limit`."""
    count = min(memory.num_items, math.ceil(theory.limit(memory.dim, memory.num_items)))
    items = torch.arange(count, device=memory.inputs.device)
    queries = memory.inputs[items] @ weight.T
    margin = retrieval(queries, memory.outputs, items).margin
    levels = torch.tensor(QUANTILES, dtype=margin.dtype, device=margin.device)
    return [float(quantile) for quantile in torch.quantile(margin, levels)]
