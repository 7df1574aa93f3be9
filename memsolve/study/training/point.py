"""The point of `dynamics`: the best candidate's runs at one `d`, and all trials of the tuning."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np

from memsolve import theory
from memsolve.engine import Point
from memsolve.engine.results.estimate import Floats
from memsolve.study.training.early_ends import EarlyEnds, early_ends
from memsolve.study.training.grid import Candidate, TrainingGrid, TuningKey
from memsolve.study.training.selection import select
from memsolve.study.training.trajectory import Trajectories, Trajectory
from memsolve.training import Schedule

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class DynamicsPoint(Point):
    """Training at one `d`, with the selected schedule and learning rate.

    The first axis of a list is steps unless stated otherwise. A run that ended early, because it
    diverged or a step failed, counts 0 items from then on.

    Attributes:
        num_items: number of facts `N`.
        limit: about how many items any weight can store, `theory.limit`.
        schedule, lr, ratio: of the selected trials, one for each seed.
        edges: directions in which the selected candidate is outermost, see `selection.edges_of`.
        seconds: median time of a step of the selected trials, on this machine; None if they ran
            beside others.
        recovered: (T, S) items after each step, by seed.
        top_rank: (T, S) highest recovered rank after each step, by seed.
        loss: (L, S) before each step, on its batch, up to the shortest run.
        best_recovered: (T,) the most items that any trial had recovered after each step, mean over
            seeds: what tuning for each number of steps would give.
        marks: (M,) steps after which margins were measured, up to the shortest run.
        margins: (M, 5) quantiles of margins (5 to 95%), mean over seeds.
        trial_schedules, trial_lrs, trial_ratios, trial_recovered: (K,) every candidate, and the
            items that it recovered after the last step, mean over seeds.
        early_ends: selected trials that ended early.
    """

    axes: ClassVar = {
        "recovered": "T S",
        "top_rank": "T S",
        "loss": "l S",
        "best_recovered": "T",
        "marks": "m",
        "margins": "m 5",
        "trial_schedules": "K",
        "trial_lrs": "K",
        "trial_ratios": "K?",
        "trial_recovered": "K",
    }

    num_items: int
    limit: float
    schedule: Schedule
    lr: float
    seconds: float | None
    recovered: list[list[int]]
    top_rank: list[list[int]]
    loss: list[list[float]]
    best_recovered: list[float]
    marks: list[int]
    margins: list[list[float]]
    trial_schedules: list[Schedule]
    trial_lrs: list[float]
    trial_recovered: list[float]
    early_ends: EarlyEnds = field(default_factory=dict)
    ratio: float = 1.0
    edges: list[str] = field(default_factory=list)
    trial_ratios: list[float] = field(default_factory=list)

    @property
    def candidate(self) -> Candidate:
        """The selected schedule, learning rate and ratio."""
        return Candidate(self.schedule, self.lr, self.ratio)

    @property
    def candidates(self) -> list[Candidate]:
        """(K,) every candidate; those of a summary without ratios have a ratio of 1."""
        ratios = self.trial_ratios or [1.0] * len(self.trial_lrs)
        return list(map(Candidate, self.trial_schedules, self.trial_lrs, ratios))

    @property
    def plateau(self) -> list[int]:
        """Items recovered after the last step, by seed."""
        return self.recovered[-1]


def dynamics_point(grid: TrainingGrid, key: TuningKey, trajectories: Trajectories) -> DynamicsPoint:
    """The point of the trials at one tuning key."""
    selection = select(trajectories, grid.steps)
    selected = [
        trajectory
        for trial, trajectory in trajectories.items()
        if trial.candidate == selection.candidate
    ]
    candidates = sorted({trial.candidate for trial in trajectories})
    curves = [mean_curve(trajectories, candidate, grid.steps) for candidate in candidates]
    shortest = min(len(trajectory.loss) for trajectory in selected)
    num_items = grid.items_of(key.dim)
    return DynamicsPoint(
        dim=key.dim,
        num_items=num_items,
        limit=theory.limit(key.dim, num_items),
        schedule=selection.schedule,
        lr=selection.lr,
        ratio=selection.ratio,
        edges=list(selection.edges),
        seconds=median_time(trajectory.seconds for trajectory in selected),
        recovered=by_step([pad(trajectory.recovered, grid.steps) for trajectory in selected]),
        top_rank=by_step([pad(trajectory.top_rank, grid.steps) for trajectory in selected]),
        loss=by_step([trajectory.loss[:shortest] for trajectory in selected]),
        best_recovered=np.max(curves, axis=0).tolist(),
        marks=min((trajectory.marks for trajectory in selected), key=len),
        margins=mean_margins(selected),
        trial_schedules=[candidate.schedule for candidate in candidates],
        trial_lrs=[candidate.lr for candidate in candidates],
        trial_ratios=[candidate.ratio for candidate in candidates],
        trial_recovered=[float(curve[-1]) for curve in curves],
        early_ends=early_ends(selected),
    )


def median_time(seconds: Iterable[float]) -> float | None:
    """The median of times; None if one of them was not measured, and is NaN."""
    median = float(np.median(list(seconds)))
    return None if math.isnan(median) else median


def pad(counts: Sequence[int], steps: int) -> list[int]:
    """(T,) counts after each step, with 0 after the end of a run that ended early."""
    return [*counts, *[0] * (steps - len(counts))]


def by_step(by_seed: Sequence[Sequence[Number]]) -> list[list[Number]]:
    """(T, S) from the lists of the seeds, (S, T)."""
    return [list(seeds) for seeds in zip(*by_seed, strict=True)]


def mean_margins(trajectories: Sequence[Trajectory]) -> list[list[float]]:
    """(M, 5) quantiles of margins, mean over seeds, up to the shortest run."""
    marks = min(len(trajectory.marks) for trajectory in trajectories)
    if not marks:
        return []
    margins = [trajectory.margins[:marks] for trajectory in trajectories]
    means: list[list[float]] = np.mean(margins, axis=0).tolist()
    return means


def last_counts(trajectories: Trajectories, steps: int) -> Floats:
    """(S, K) items recovered after the last step, by seed and candidate."""
    by_candidate: dict[Candidate, list[int]] = {}
    for trial, trajectory in trajectories.items():
        counts = by_candidate.setdefault(trial.candidate, [])
        counts.append(pad(trajectory.recovered, steps)[-1])
    return np.array([*by_candidate.values()], dtype=float).T


def mean_curve(trajectories: Trajectories, candidate: Candidate, steps: int) -> Floats:
    """(T,) items that a candidate has recovered after each step, mean over seeds."""
    curves = [
        np.array(pad(trajectory.recovered, steps), dtype=float)
        for trial, trajectory in trajectories.items()
        if trial.candidate == candidate
    ]
    mean: Floats = np.mean(curves, axis=0)
    return mean
