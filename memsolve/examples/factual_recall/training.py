"""Training the model on prompts, and what the run comes to."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from memsolve.examples.factual_recall.facts import Facts, Prompts
from memsolve.examples.factual_recall.model import Model
from memsolve.examples.factual_recall.team import Evaluate, Team, unit_rates
from memsolve.faults import StepError
from memsolve.seeds import seeded
from memsolve.study.training.grid import TrainingGrid
from memsolve.study.training.trajectory import marks_of
from memsolve.training import Builder, Schedule, schedule_factor


@dataclass(frozen=True)
class Recollection:
    """What a run has come to; shorter than asked for where it ended early.

    Attributes:
        marks: steps after which every fact was asked for: powers of two, and the last.
        buckets: (M, 3) facts recalled then, of head, torso and tail.
        loss: (M,) mean over the batches since the mark before.
        seconds: median of a step, asking not included.
        failed: why a step failed, which ended the run; empty if none did.
        diverged: a parameter was not finite, which ended the run.
    """

    marks: list[int]
    buckets: list[list[int]]
    loss: list[float]
    seconds: float
    failed: str = ""
    diverged: bool = False

    @property
    def recovered(self) -> list[int]:
        """Facts recalled at each mark."""
        return [sum(counts) for counts in self.buckets]

    @property
    def whole(self) -> bool:
        """It has made all its steps; one that has not counts 0 from there on."""
        return not (self.failed or self.diverged)


@dataclass(frozen=True)
class Lesson:
    """All that decides a run but its step size: optimizers that are compared differ in `build`.

    Attributes:
        grid: steps, device and dtype.
        facts: are taught.
        build: makes the optimizer.
        dim: width of the model.
        batch_size: prompts a step.
        seed: of the model's first weights and of the prompts.
    """

    grid: TrainingGrid
    facts: Facts
    build: Builder
    dim: int
    batch_size: int
    seed: int

    def model(self) -> Model:
        """The model before its first step."""
        with seeded(self.grid.device, self.seed, self.dim):
            model = Model(self.facts.num_words, self.dim)
        return model.to(self.grid.device, getattr(torch, self.grid.dtype))

    def batches(self) -> Iterator[Prompts]:
        """Prompts of one step after the other."""
        (state,) = np.random.SeedSequence([self.seed, self.dim]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state))
        while True:
            yield self.on_device(self.facts.draw(self.batch_size, generator))

    def unit_rates(self) -> list[float]:
        """`team.unit_rates` on the first batch."""
        return unit_rates(self.build, self.model(), next(self.batches()))

    def walk(self, schedule: Schedule, lr: float) -> Iterator[tuple[Model, float, float]]:
        """The model after each step, the loss before it, and the seconds that it took.

        Ends early at a parameter that is not finite.

        Raises:
            StepError: the optimizer cannot be made, or its step failed.
        """
        model = self.model()
        team = Team(self.build, model)
        units = self.unit_rates() if len(team.members) > 1 else [1.0]
        for step, prompts in zip(range(self.grid.steps), self.batches(), strict=False):
            start = time.perf_counter()
            rate = lr * schedule_factor(schedule, step, self.grid.steps)
            loss = team.step(Evaluate(model, prompts), [rate * unit / units[0] for unit in units])
            if not get_total_norm(model.parameters()).isfinite():
                return
            yield model, loss, time.perf_counter() - start

    def on_device(self, prompts: Prompts) -> Prompts:
        """The prompts where the model is."""
        return Prompts(*(column.to(self.grid.device) for column in prompts))


def recollect(lesson: Lesson, schedule: Schedule, lr: float) -> Recollection:
    """A run, and what the model recalls of all facts at the marks."""
    found = Recollection([], [], [], math.nan)
    every, marks = lesson.on_device(lesson.facts.all()), marks_of(lesson.grid.steps)
    losses: list[float] = []
    seconds: list[float] = []
    try:
        for model, loss, took in lesson.walk(schedule, lr):
            losses.append(loss)
            seconds.append(took)
            if len(seconds) in marks:
                found.marks.append(len(seconds))
                found.buckets.append(lesson.facts.by_bucket(model.recalled(every)))
                found.loss.append(float(np.mean(losses)))
                losses.clear()
    except StepError as error:
        found = replace(found, failed=str(error))
    else:
        found = replace(found, diverged=len(seconds) < lesson.grid.steps)
    return replace(found, seconds=float(np.median(seconds))) if seconds else found
