"""What one optimizer has come to at one `d`, as a leaderboard shows it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve import theory
from memsolve.engine import Point
from memsolve.engine.results.estimate import Estimate
from memsolve.study.leaderboard.grid import LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.saturating_batch import enough
from memsolve.study.training.dynamics_point import by_step, early_ends, padded
from memsolve.study.training.grid import TuningKey
from memsolve.study.training.trajectory import Trajectory, choose
from memsolve.study.training.tuning import Selection
from memsolve.training import Schedule


@dataclass(frozen=True)
class LeaderboardRun(Trajectory):
    """A run, with its costs where it is shown.

    Attributes:
        took: seconds, all evaluations included.
        time, state: see `cost.Cost`; None of runs that tune, and of those on batches.
    """

    took: float = 0.0
    time: float | None = None
    state: float | None = None


Runs = Mapping[LeaderboardTrial, LeaderboardRun]
"""Those of one place: that tune, and that are shown."""


@dataclass(frozen=True)
class LeaderboardPoint(Point):
    """What one optimizer has come to at one `d`.

    Attributes:
        num_items: number of facts `N`.
        limit: about what any weight can store, `theory.limit`.
        horizons: (H,) numbers of steps.
        schedules, lrs: (H,) of the trial that had stored most by then, of those that tune.
        edges: (H,) its step size is the smallest or largest tried.
        recovered: (H, S) items by then, by seed.
        curve: (T,) items after each step of the trial for the last horizon, mean over seeds.
        time: (S,) of a step, over SGD's; see `cost.Cost`.
        state: numbers kept over those of the weight.
        critical: the critical batch size, by `enough.enough`.
        took: seconds of all its runs, tuning and batches included, on this machine.
        note: which of the runs to the last horizon ended early, and when; empty if none did.
    """

    axes: ClassVar = {
        "horizons": "H",
        "schedules": "H",
        "lrs": "H",
        "edges": "H",
        "recovered": "H S",
        "curve": "T",
    }

    num_items: int
    limit: float
    horizons: list[int]
    schedules: list[Schedule]
    lrs: list[float]
    edges: list[bool]
    recovered: list[list[int]]
    curve: list[float]
    time: list[float]
    state: float
    critical: Estimate
    took: float
    note: str = ""


def best(runs: Runs, steps: int) -> Selection:
    """The trial of a place that had stored most after so many steps."""
    return choose({run: result.after(steps) for run, result in runs.items() if run.tunes})


def shown(
    grid: LeaderboardGrid, place: TuningKey, chosen: Selection, steps: int
) -> list[LeaderboardTrial]:
    """The runs that show a chosen trial, one a seed, none of which it was tuned on."""
    name, alpha, dim, batch_size = place
    made = name, alpha, dim, grid.items_of(dim), batch_size
    return [LeaderboardTrial(*made, seed, chosen.schedule, chosen.lr, steps) for seed in grid.shown]


def standing(
    grid: LeaderboardGrid, place: TuningKey, places: Mapping[TuningKey, Runs]
) -> LeaderboardPoint:
    """What the runs of an optimizer at one alpha and `d` come to; its place is the population's."""
    num_items = grid.items_of(place.dim)
    chosen = [best(places[place], steps) for steps in grid.horizons]
    runs = [
        [places[place][run] for run in shown(grid, place, one, steps)]
        for one, steps in zip(chosen, grid.horizons, strict=True)
    ]
    every = (run for at, of in places.items() if at[:3] == place[:3] for run in of.values())
    last = [padded(run.recovered, grid.steps) for run in runs[-1]]
    return LeaderboardPoint(
        dim=place.dim,
        num_items=num_items,
        limit=theory.limit(place.dim, num_items),
        horizons=grid.horizons,
        schedules=[one.schedule for one in chosen],
        lrs=[one.lr for one in chosen],
        edges=[one.edge for one in chosen],
        recovered=[
            [padded(run.recovered, steps)[-1] for run in seeds]
            for seeds, steps in zip(runs, grid.horizons, strict=True)
        ],
        curve=[float(np.mean(seeds)) for seeds in by_step(last)],
        time=[run.time for run in runs[-1] if run.time is not None],
        state=max(run.state or 0.0 for run in runs[-1]),
        critical=critical(grid, place, places),
        took=sum(run.took for run in every),
        note=early_ends(runs[-1]),
    )


def critical(grid: LeaderboardGrid, place: TuningKey, places: Mapping[TuningKey, Runs]) -> Estimate:
    """The batch size that stores nearly as much as the population, at the smallest `d`."""
    if place.dim != min(grid.dims):
        return Estimate(None, note=f"measured at d = {min(grid.dims)} alone")
    sizes = [*grid.batch_sizes_of(place.alpha, place.dim), None]
    counts = [stored_with(grid, place._replace(batch_size=size), places) for size in sizes]
    return enough([size or math.inf for size in sizes], np.array(counts, dtype=float).T)


def stored_with(
    grid: LeaderboardGrid, place: TuningKey, places: Mapping[TuningKey, Runs]
) -> list[int]:
    """(S,) items stored with batches of one size, after as many steps for all sizes."""
    steps = grid.steps_with(batch_size=1)
    runs = places[place]
    results = (runs[run] for run in shown(grid, place, best(runs, steps), steps))
    return [padded(result.recovered, steps)[-1] for result in results]
