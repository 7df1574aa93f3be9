"""What one optimizer has come to at one `d`, as a leaderboard shows it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memsolve import theory
from memsolve.engine import Point
from memsolve.engine.fit import Estimate
from memsolve.study.aims import Aim, aims, shown
from memsolve.study.batch_fit import BatchScaling
from memsolve.study.board import Board, Entry
from memsolve.study.outcome import by_step, early_ends, padded
from memsolve.study.trajectory import Trajectory
from memsolve.study.trials import Place
from memsolve.training import Schedule


@dataclass(frozen=True)
class Run(Trajectory):
    """A run, with its costs where it is shown.

    Attributes:
        took: seconds, all evaluations included.
        time, state: see `cost.Cost`; None of runs that tune, and of those on batches.
    """

    took: float = 0.0
    time: float | None = None
    state: float | None = None


Runs = Mapping[Entry, Run]
"""Those of one place: that tune, and that are shown."""


@dataclass(frozen=True)
class Standing(Point):
    """What one optimizer has come to at one `d`.

    Attributes:
        num_items: number of facts `N`.
        limit: about what any weight can store, `theory.limit`.
        horizons: (H,) numbers of steps.
        schedules, step_sizes: (H,) of the trial that had stored most by then, of those that tune.
        edges: (H,) its step size is the smallest or largest tried.
        stored: (H, S) items by then, by seed.
        curve: (T,) items after each step of the trial for the last horizon, mean over seeds.
        time: (S,) of a step, over SGD's; see `cost.Cost`.
        state: numbers kept over those of the weight.
        critical: the batch size of `S(B) = S_min (1 + B_crit / B)`, steps to `aims.goal`.
        took: seconds of all its runs, tuning and batches included, on this machine.
        note: which of the runs to the last horizon ended early, and when; empty if none did.
    """

    num_items: int
    limit: float
    horizons: list[int]
    schedules: list[Schedule]
    step_sizes: list[float]
    edges: list[bool]
    stored: list[list[int]]
    curve: list[float]
    time: list[float]
    state: float
    critical: Estimate
    took: float
    note: str = ""


def standing(grid: Board, place: Place, places: Mapping[Place, Runs]) -> Standing:
    """What the runs of an optimizer at one alpha and `d` come to."""
    num_items = grid.items_of(place.dim)
    wanted = [aim for aim in aims(grid, place) if math.isinf(aim.goal)]
    chosen = [aim.choose(tuning(places[place])) for aim in wanted]
    runs = [
        [places[place][run] for run in shown(grid, place, aim, best)]
        for aim, best in zip(wanted, chosen, strict=True)
    ]
    counts = [
        [padded(run.recovered, aim.steps) for run in of]
        for aim, of in zip(wanted, runs, strict=True)
    ]
    every = (run for at, of in places.items() if at[:3] == place[:3] for run in of.values())
    return Standing(
        dim=place.dim,
        num_items=num_items,
        limit=theory.limit(place.dim, num_items),
        horizons=grid.horizons,
        schedules=[best.schedule for best in chosen],
        step_sizes=[best.step_size for best in chosen],
        edges=[best.edge for best in chosen],
        stored=[[seed[-1] for seed in seeds] for seeds in counts],
        curve=[float(np.mean(seeds)) for seeds in by_step(counts[-1])],
        time=[run.time for run in runs[-1] if run.time is not None],
        state=max(run.state or 0.0 for run in runs[-1]),
        critical=critical(grid, place, places),
        took=sum(run.took for run in every),
        note=early_ends(runs[-1]),
    )


def tuning(runs: Runs) -> Runs:
    """The runs of a place that its step sizes are tuned by."""
    return {run: result for run, result in runs.items() if run.tunes}


def critical(grid: Board, place: Place, places: Mapping[Place, Runs]) -> Estimate:
    """The critical batch size, which is measured at the smallest `d`."""
    if place.dim != min(grid.dims):
        return Estimate(None, note=f"measured at d = {min(grid.dims)} alone")
    sizes = [*grid.batch_sizes_of(place.alpha, place.dim), None]
    steps = [steps_to(grid, place._replace(batch_size=size), places) for size in sizes]
    scaling = BatchScaling([size or math.inf for size in sizes], grid.steps)
    return scaling.estimate(np.array(steps).T[..., None], scaling.critical)


def steps_to(grid: Board, place: Place, places: Mapping[Place, Runs]) -> list[float]:
    """Steps to the target, by seed, of the trial that is quickest there."""
    aim: Aim = aims(grid, place)[-1]
    best = aim.choose(tuning(places[place]))
    runs = (places[place][run] for run in shown(grid, place, aim, best))
    return [run.steps_to(aim.goal) for run in runs]
