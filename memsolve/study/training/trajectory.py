"""One training run, evaluated on all items after every step."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from memsolve_kernels import retrieval

from memsolve import theory
from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory, Batch
from memsolve.recall import Recall
from memsolve.study.training.grid import T, TrainingGrid, Trial
from memsolve.study.training.tuning import Candidate, Selection, lrs_by_schedule, off_middle
from memsolve.training import Builder, State, Trainer, schedule_factor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Trajectory:
    """What a run has come to, step by step; shorter than asked for where it ended early.

    Attributes:
        recovered: items recovered of all after each step.
        top_rank: highest recovered rank after each step.
        loss: on the batch of each step, of the weight before it.
        seconds: median of a step, recall not included.
        marks: steps after which margins were taken: powers of two, and the last.
        margins: at each mark, quantiles (5, 25, 50, 75 and 95%) of the margins of the items that
            `d` could hold (`theory.limit`).
        failed: why a step failed, which ended the run; empty if none did.
        diverged: a weight was not finite, or too large for its logits, which ended the run.
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
    def whole(self) -> bool:
        """It has made all its steps; one that has not counts 0 from there on."""
        return not (self.failed or self.diverged)

    def after(self, steps: int) -> Self:
        """As it was after so many steps, or after all that it has made."""
        if len(self.recovered) < steps:
            return self
        made = {name: getattr(self, name)[:steps] for name in ("recovered", "top_rank", "loss")}
        return replace(self, **made, failed="", diverged=False)


class Ran(Protocol):
    """What `choose` asks of a run."""

    @property
    def recovered(self) -> list[int]:
        """Items stored, as time goes on."""

    @property
    def loss(self) -> list[float]:
        """Likewise."""

    @property
    def whole(self) -> bool:
        """It has not ended early."""


Trajectories = Mapping[Trial, Trajectory]


def walk(
    grid: TrainingGrid, memory: AssociativeMemory, build: Builder, cell: Trial
) -> Iterator[tuple[State, Recall]]:
    """The state after each step of a trial, with the recall of all items; ends if it diverges."""
    trainer = Trainer(Objective(memory, memory.population()), build)
    recovered = torch.zeros(memory.num_items, dtype=torch.bool, device=memory.inputs.device)
    for step in range(grid.steps):
        batch = batch_of_step(memory, cell, step)
        if grid.gradient == "thresholded":
            batch = remaining(batch, recovered)
        state = trainer.step(batch, cell.lr * schedule_factor(cell.schedule, step, grid.steps))
        if state is None:
            return
        recall = memory.recall(state.weight)
        recovered = recall.recovered
        yield state, recall


def marks_of(steps: int) -> list[int]:
    """Steps after which more is measured: powers of two, and the last."""
    return sorted({*(2**k for k in range(steps.bit_length())), steps})


def trajectory(
    grid: TrainingGrid, memory: AssociativeMemory, build: Builder, cell: Trial
) -> Trajectory:
    """A run, evaluated on all items after every step."""
    marks = marks_of(grid.steps)
    run = Trajectory([], [], [], math.nan, [], [])
    seconds = []
    try:
        for state, recall in walk(grid, memory, build, cell):
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


def batch_of_step(memory: AssociativeMemory, cell: Trial, step: int) -> Batch:
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
    """`QUANTILES` of the margins of the most frequent items, as many as `d` could hold."""
    count = min(memory.num_items, math.ceil(theory.limit(memory.dim, memory.num_items)))
    items = torch.arange(count, device=memory.inputs.device)
    found = retrieval(memory.inputs[items] @ weight.T, memory.outputs, items).margin
    levels = torch.tensor(QUANTILES, dtype=found.dtype, device=found.device)
    return [float(value) for value in torch.quantile(found, levels)]


def choose(runs: Mapping[T, Ran]) -> Selection:
    """What has recovered most items after the last step, mean over seeds.

    Of equals, what has the lower loss, then what came further before it ended early, and then the
    step size nearer to the middle of those tried, so that none is at an edge for nothing. A run
    that ended early has recovered nothing, at an infinite loss.
    """
    scores: dict[Candidate, list[tuple[float, float, int]]] = {}
    for run, result in runs.items():
        end = (result.recovered[-1], -result.loss[-1]) if result.whole else (0, -math.inf)
        score = (*end, len(result.recovered))
        scores.setdefault((run.schedule, run.lr), []).append(score)
    means = {tried: tuple(np.mean(np.array(score), axis=0)) for tried, score in scores.items()}
    sizes = lrs_by_schedule(means)

    def worth(tried: Candidate) -> tuple[float, ...]:
        schedule, size = tried
        return *means[tried], -off_middle(sizes[schedule], size)

    return Selection.of(max(means, key=worth), sizes)
