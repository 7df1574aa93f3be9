"""The point of a leaderboard: one optimizer at one `d`, at each number of steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from memsolve import theory
from memsolve.engine import Point
from memsolve.engine.results.estimate import Estimate
from memsolve.study.leaderboard.grid import LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.saturating_batch import saturating_batch_size
from memsolve.study.training.early_ends import EarlyEnds, early_ends
from memsolve.study.training.grid import Candidate, TuningKey
from memsolve.study.training.point import by_step, pad
from memsolve.study.training.selection import Selection, select
from memsolve.study.training.trajectory import Trajectory
from memsolve.training import Schedule


@dataclass(frozen=True)
class LeaderboardRun(Trajectory):
    """A run, with its costs if it is reported.

    Attributes:
        total_seconds: of the run, with all evaluations; NaN if it ran beside others.
        time, state: see `cost.Cost`; None of tuning runs and of runs on batches.
    """

    total_seconds: float = 0.0
    time: float | None = None
    state: float | None = None


Runs = Mapping[LeaderboardTrial, LeaderboardRun]
"""The runs at one tuning key, for tuning and for evaluation."""


@dataclass(frozen=True)
class LeaderboardPoint(Point):
    """One optimizer at one `d`.

    Attributes:
        num_items: number of facts `N`.
        limit: about how many items any weight can store, `theory.limit`.
        horizons: (H,) numbers of steps.
        schedules, lrs, ratios: (H,) of the candidate that had recovered the most after so many
            steps of tuning.
        at_edge: (H,) whether its learning rate or ratio is the smallest or largest of the trials.
        recovered: (H, S) items recovered after so many steps, by seed.
        curve: (T,) items after each step of the last horizon's candidate, mean over seeds.
        time: (S,) of a step, relative to SGD's; see `cost.Cost`.
        state: numbers in the optimizer's state, per number in the weight.
        saturating_batch_size: `B_80%`, see `saturating_batch.saturating_batch_size`.
        total_seconds: of all its runs, with tuning and batches, on this machine; None if some ran
            beside others.
        early_ends: reported runs of the last horizon that ended early.
    """

    axes: ClassVar = {
        "horizons": "H",
        "schedules": "H",
        "lrs": "H",
        "ratios": "H?",
        "at_edge": "H",
        "recovered": "H S",
        "curve": "T",
    }

    num_items: int
    limit: float
    horizons: list[int]
    schedules: list[Schedule]
    lrs: list[float]
    at_edge: list[bool]
    recovered: list[list[int]]
    curve: list[float]
    time: list[float]
    state: float
    saturating_batch_size: Estimate
    total_seconds: float | None
    early_ends: EarlyEnds = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)

    @property
    def mean(self) -> list[float]:
        """(H,) items recovered, mean over seeds."""
        return [float(np.mean(seeds)) for seeds in self.recovered]


def select_at(runs: Runs, steps: int) -> Selection:
    """The candidate that had recovered the most after so many steps of tuning."""
    tuning = {trial: run.after(steps) for trial, run in runs.items() if trial.is_for_tuning}
    return select(tuning, steps)


def evaluation_trials(
    grid: LeaderboardGrid, key: TuningKey, candidate: Candidate, steps: int
) -> list[LeaderboardTrial]:
    """The trials that evaluate a candidate, one for each evaluation seed."""
    name, alpha, dim, batch_size = key
    cell = name, alpha, dim, grid.items_of(dim), batch_size
    return [
        LeaderboardTrial(*cell, seed, *candidate, steps=steps) for seed in grid.evaluation_seeds
    ]


def leaderboard_point(
    grid: LeaderboardGrid, key: TuningKey, by_key: Mapping[TuningKey, Runs]
) -> LeaderboardPoint:
    """The point of an optimizer at one alpha and `d`; `key` is that of the population."""
    num_items = grid.items_of(key.dim)
    selections = [select_at(by_key[key], steps) for steps in grid.horizons]
    total_seconds = sum(
        run.total_seconds
        for other, by_trial in by_key.items()
        if other[:3] == key[:3]
        for run in by_trial.values()
    )
    runs = [
        [by_key[key][trial] for trial in evaluation_trials(grid, key, selection.candidate, steps)]
        for selection, steps in zip(selections, grid.horizons, strict=True)
    ]
    last = [pad(run.recovered, grid.steps) for run in runs[-1]]
    return LeaderboardPoint(
        dim=key.dim,
        num_items=num_items,
        limit=theory.limit(key.dim, num_items),
        horizons=grid.horizons,
        schedules=[selection.schedule for selection in selections],
        lrs=[selection.lr for selection in selections],
        at_edge=[selection.at_edge for selection in selections],
        recovered=[
            [pad(run.recovered, steps)[-1] for run in seeds]
            for seeds, steps in zip(runs, grid.horizons, strict=True)
        ],
        curve=[float(np.mean(seeds)) for seeds in by_step(last)],
        time=[run.time for run in runs[-1] if run.time is not None],
        state=max(run.state or 0.0 for run in runs[-1]),
        saturating_batch_size=saturating_batch_size_at(grid, key, by_key),
        total_seconds=None if math.isnan(total_seconds) else total_seconds,
        early_ends=early_ends(runs[-1]),
        ratios=[selection.ratio for selection in selections],
    )


def saturating_batch_size_at(
    grid: LeaderboardGrid, key: TuningKey, by_key: Mapping[TuningKey, Runs]
) -> Estimate:
    """`B_80%` of an optimizer and alpha, which is measured at the smallest `d`."""
    if key.dim != min(grid.dims):
        return Estimate(None, note=f"measured at d = {min(grid.dims)} only")
    sizes = [*grid.batch_sizes_of(key.alpha, key.dim), None]
    counts = [recovered_with(grid, key._replace(batch_size=size), by_key) for size in sizes]
    return saturating_batch_size(
        [size or math.inf for size in sizes], np.array(counts, dtype=float).T
    )


def recovered_with(
    grid: LeaderboardGrid, key: TuningKey, by_key: Mapping[TuningKey, Runs]
) -> list[int]:
    """(S,) items recovered with batches of one size, after the number of steps of all sizes."""
    steps, runs = grid.batch_steps, by_key[key]
    candidate = select_at(runs, steps).candidate
    trials = evaluation_trials(grid, key, candidate, steps)
    return [pad(runs[trial].recovered, steps)[-1] for trial in trials]
