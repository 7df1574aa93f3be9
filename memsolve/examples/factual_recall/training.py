"""Train the model on prompts, and count the facts that it recovers."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from memsolve.examples.factual_recall.facts import Facts, Prompts
from memsolve.examples.factual_recall.model import FactModel
from memsolve.examples.factual_recall.optimizer_group import LossClosure, OptimizerGroup, unit_lrs
from memsolve.faults import StepError
from memsolve.seeds import seeded
from memsolve.study.training.grid import Candidate, TrainingGrid
from memsolve.study.training.trajectory import marks_of
from memsolve.training import Builder, schedule_factor


@dataclass(frozen=True)
class RecallRun:
    """The outcome of a run; shorter than the grid's steps if it ended early.

    Attributes:
        marks: steps after which every fact was evaluated: powers of two, and the last.
        buckets: (M, 3) facts recovered then, in head, torso and tail.
        loss: (M,) mean over the batches since the previous mark.
        seconds: median time of a step, without the evaluation.
        failed: why a step failed, which ended the run; empty if none did.
        diverged: whether the run ended because a parameter was not finite.
    """

    marks: list[int]
    buckets: list[list[int]]
    loss: list[float]
    seconds: float
    failed: str = ""
    diverged: bool = False

    @property
    def recovered(self) -> list[int]:
        """Facts recovered at each mark."""
        return [sum(counts) for counts in self.buckets]

    @property
    def complete(self) -> bool:
        """Whether the run took all its steps; if not, it counts as 0 from its end on."""
        return not (self.failed or self.diverged)


@dataclass(frozen=True)
class RecallTask:
    """Everything that determines a run except its candidate.

    Attributes:
        grid: steps, device and dtype.
        facts: to learn.
        build: makes the optimizer.
        dim: width of the model.
        batch_size: prompts per step.
        seed: of the initial model and of the prompts.
    """

    grid: TrainingGrid
    facts: Facts
    build: Builder
    dim: int
    batch_size: int
    seed: int

    def initial_model(self) -> FactModel:
        """The model before its first step."""
        with seeded(self.grid.device, self.seed, self.dim):
            model = FactModel(self.facts.vocabulary_size, self.dim)
        return model.to(self.grid.device, getattr(torch, self.grid.dtype))

    def batches(self) -> Iterator[Prompts]:
        """The prompts of each step."""
        (state,) = np.random.SeedSequence([self.seed, self.dim]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state))
        while True:
            yield self.to_device(self.facts.sample(self.batch_size, generator))

    def unit_lrs(self) -> list[float]:
        """`optimizer_group.unit_lrs` on the first batch."""
        return unit_lrs(self.build, self.initial_model(), next(self.batches()))

    def train(self, candidate: Candidate) -> Iterator[tuple[FactModel, float, float]]:
        """The model after each step, the loss before the step, and its time in seconds.

        Ends early if a parameter is not finite.

        Raises:
            StepError: the optimizer cannot be made, or its step failed.
        """
        model = self.initial_model()
        group = OptimizerGroup(self.build, model)
        units = self.unit_lrs() if len(group.optimizers) > 1 else [1.0]
        for step, prompts in zip(range(self.grid.steps), self.batches(), strict=False):
            start = time.perf_counter()
            factor = schedule_factor(candidate.schedule, step, self.grid.steps, candidate.ratio)
            main_lr = candidate.lr * factor
            lrs = [main_lr * unit / units[0] for unit in units]
            loss = group.step(LossClosure(model, prompts), lrs)
            if not get_total_norm(model.parameters()).isfinite():
                return
            yield model, loss, time.perf_counter() - start

    def to_device(self, prompts: Prompts) -> Prompts:
        """The prompts on the device of the model."""
        return Prompts(*(column.to(self.grid.device) for column in prompts))


def measure_recall(task: RecallTask, candidate: Candidate) -> RecallRun:
    """Train the model, and count the facts that it recovers at each mark."""
    run = RecallRun([], [], [], math.nan)
    every, marks = task.to_device(task.facts.all_prompts()), marks_of(task.grid.steps)
    losses: list[float] = []
    seconds: list[float] = []
    try:
        for model, loss, step_seconds in task.train(candidate):
            losses.append(loss)
            seconds.append(step_seconds)
            if len(seconds) in marks:
                run.marks.append(len(seconds))
                run.buckets.append(task.facts.count_by_bucket(model.recovers(every)))
                run.loss.append(float(np.mean(losses)))
                losses.clear()
    except StepError as error:
        run = replace(run, failed=str(error))
    else:
        run = replace(run, diverged=len(seconds) < task.grid.steps)
    return replace(run, seconds=float(np.median(seconds))) if seconds else run
