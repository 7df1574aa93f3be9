"""The selection of a candidate from the trials at one tuning key."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from memsolve.study.training.grid import Candidate, T, mean_lr
from memsolve.training import Schedule


class Selection(NamedTuple):
    """The best candidate at a tuning key.

    Attributes:
        schedule, lr, ratio: of the best trials.
        edges: in which directions no candidate of the schedule is further out, even after
            widening: see `edges_of`. Empty if it is inside in all.
    """

    schedule: Schedule
    lr: float
    ratio: float
    edges: tuple[str, ...]

    @property
    def candidate(self) -> Candidate:
        """The schedule, the learning rate and the ratio."""
        return Candidate(self.schedule, self.lr, self.ratio)

    @property
    def at_edge(self) -> bool:
        """Whether it is outermost in any direction."""
        return bool(self.edges)

    @classmethod
    def of(cls, best: Candidate, candidates: Iterable[Candidate], steps: int) -> Self:
        """The best of all candidates, for runs of a number of steps."""
        return cls(*best, edges_of(best, candidates, steps))


def edges_of(best: Candidate, candidates: Iterable[Candidate], steps: int) -> tuple[str, ...]:
    """The directions in which the best candidate is outermost among those of its schedule.

    Learning rates are compared by their means over the steps, since the first learning rate of a
    geometric schedule says little without its ratio. A direction with one value has no edge.
    """
    rivals = [each for each in candidates if each.schedule == best.schedule]
    edges = []
    for name, coordinate in (
        ("learning rate", lambda each: mean_lr(each, steps)),
        ("ratio", lambda each: each.ratio),
    ):
        values = [coordinate(each) for each in rivals]
        smallest, largest = min(values), max(values)
        if smallest < largest:
            edges += [f"smallest {name}"] * (coordinate(best) == smallest)
            edges += [f"largest {name}"] * (coordinate(best) == largest)
    return tuple(edges)


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


def select(runs: Mapping[T, TrainingRun], steps: int) -> Selection:
    """The candidate with the most items recovered after the last step, mean over seeds.

    Ties are broken by the lower loss, then by the later early end, then by the learning rate
    nearer to the middle of its schedule's. A run that ended
    early counts as 0 items at an infinite loss.

    Args:
        runs: by trial, of any candidates and seeds.
        steps: of a complete run.
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

    return Selection.of(max(means, key=order), means, steps)


def lrs_by_schedule(candidates: Iterable[Candidate]) -> dict[Schedule, list[float]]:
    """The learning rates of each schedule, increasing."""
    lrs: dict[Schedule, list[float]] = {}
    for schedule, lr, _ in sorted(set(candidates)):
        lrs.setdefault(schedule, []).append(lr)
    return lrs


def distance_from_middle(lrs: Sequence[float], lr: float) -> float:
    """How many positions a learning rate is from the middle of a list."""
    return abs(lrs.index(lr) - (len(lrs) - 1) / 2)
