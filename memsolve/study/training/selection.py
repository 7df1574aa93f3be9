"""The selection of a schedule and a learning rate from the trials at one tuning key."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from memsolve.study.training.grid import Candidate, T
from memsolve.training import Schedule


class Selection(NamedTuple):
    """The best candidate at a tuning key.

    Attributes:
        schedule, lr: of the best trials.
        at_edge: whether the learning rate is the smallest or largest of its schedule's trials,
            even after widening.
    """

    schedule: Schedule
    lr: float
    at_edge: bool

    @property
    def candidate(self) -> Candidate:
        """The schedule and the learning rate."""
        return Candidate(self.schedule, self.lr)

    @classmethod
    def of(cls, best: Candidate, lrs: Mapping[Schedule, Sequence[float]]) -> Self:
        """The best candidate, given the learning rates of each schedule, increasing."""
        smallest, largest = lrs[best.schedule][0], lrs[best.schedule][-1]
        return cls(*best, at_edge=best.lr in (smallest, largest) and smallest < largest)


class TrainingRun(Protocol):
    """The part of a run that `select` looks at."""

    @property
    def recovered(self) -> list[int]:
        """Items recovered, in the order of the steps."""

    @property
    def loss(self) -> list[float]:
        """Loss, in the order of the steps."""

    @property
    def complete(self) -> bool:
        """Whether the run took all its steps."""


def select(runs: Mapping[T, TrainingRun]) -> Selection:
    """The candidate with the most items recovered after the last step, mean over seeds.

    Ties are broken by the lower loss, then by the later early end, then by the learning rate
    nearer to the middle of its schedule's, so that a tie never selects an edge. A run that ended
    early counts as 0 items at an infinite loss.
    """
    scores: dict[Candidate, list[tuple[float, float, int]]] = {}
    for trial, run in runs.items():
        last = (run.recovered[-1], -run.loss[-1]) if run.complete else (0, -math.inf)
        scores.setdefault(trial.candidate, []).append((*last, len(run.recovered)))
    means = {
        candidate: tuple(np.mean(np.array(score), axis=0)) for candidate, score in scores.items()
    }
    lrs = lrs_by_schedule(means)

    def order(candidate: Candidate) -> tuple[float, ...]:
        return *means[candidate], -distance_from_middle(lrs[candidate.schedule], candidate.lr)

    return Selection.of(max(means, key=order), lrs)


def lrs_by_schedule(candidates: Iterable[Candidate]) -> dict[Schedule, list[float]]:
    """The learning rates of each schedule, increasing."""
    lrs: dict[Schedule, list[float]] = {}
    for schedule, lr in sorted(set(candidates)):
        lrs.setdefault(schedule, []).append(lr)
    return lrs


def distance_from_middle(lrs: Sequence[float], lr: float) -> float:
    """How many positions a learning rate is from the middle of a list."""
    return abs(lrs.index(lr) - (len(lrs) - 1) / 2)
