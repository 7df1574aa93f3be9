"""How steps to a target fall with the batch size at one `d`, of one optimizer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve.engine import Point
from memsolve.engine.results.estimate import POSITIVE, Estimate, Floats, mean
from memsolve.study.critical_batch.batch_scaling import BatchScaling, best
from memsolve.study.critical_batch.race import Race, RaceGrid, Target
from memsolve.study.training.grid import Trial
from memsolve.study.training.tuning import Candidate, Selection, lrs_by_schedule, off_middle

RacesByTrial = Mapping[Trial, Race]
"""The races at one batch size."""


@dataclass(frozen=True)
class BatchScalingPoint(Point):
    """How steps to a target fall with the batch size at one `d`.

    Attributes:
        target: items recovered or loss, to be reached.
        horizon: steps after which a run was given up.
        batch_sizes: (K,) increasing; the population, None, is last.
        lrs: (K,) of the tuned trial at each.
        edge: (K,) whether it is the smallest or largest tried.
        steps: (K, S) of the tuned trials, by seed; None where the target was not reached.
        floor, slope, misfit: of the curve `S_min (1 + B_crit / B)`, `BatchScaling.model`, whether
            identified or not; None where nothing was reached.
        critical: its `B_crit`.
        overhead: the batch size at 20% overhead over linear scaling.
        noise_at_zero, noise_at_target: exact noise scale at `W = 0`, and at the weight with which
            the tuned population run reached the target, mean over seeds.
        noise_of_batches: two-batch estimate of the latter.
    """

    axes: ClassVar = {"batch_sizes": "K", "lrs": "K", "edge": "K", "steps": "K S"}

    target: float
    horizon: int
    batch_sizes: list[int | None]
    lrs: list[float]
    edge: list[bool]
    steps: list[list[int | None]]
    floor: float | None
    slope: float | None
    misfit: float | None
    critical: Estimate
    overhead: Estimate
    noise_at_zero: Estimate
    noise_at_target: Estimate
    noise_of_batches: Estimate

    @property
    def reached(self) -> list[bool]:
        """(K,) whether every seed has reached the target."""
        return [None not in seeds for seeds in self.steps]

    @property
    def mean(self) -> list[float]:
        """(K,) steps, mean over seeds: a lower bound where the target was not reached."""
        return [
            float(np.mean([self.horizon if steps is None else steps for steps in seeds]))
            for seeds in self.steps
        ]

    def batches(self, which: Sequence[bool]) -> str:
        """Some of the batch sizes, as text: `B = 1, 4, population`."""
        named = [
            size or "population" for size, that in zip(self.batch_sizes, which, strict=True) if that
        ]
        return f"B = {', '.join(map(str, named))}"


def scaled(
    grid: RaceGrid, alpha: float, dim: int, scaling: BatchScaling, races: Sequence[RacesByTrial]
) -> BatchScalingPoint:
    """What the races of one memory have come to; there are some at every batch size."""
    chosen = [choose(runs) for runs in races]
    tuned = [
        [
            race
            for trial, race in runs.items()
            if (trial.schedule, trial.lr) == (choice.schedule, choice.lr)
        ]
        for runs, choice in zip(races, chosen, strict=True)
    ]
    steps = table(races)
    model = scaling.model(steps[None])
    floor, slope, misfit = (float(value) if math.isfinite(value) else None for (value,) in model)
    population = tuned[-1]
    return BatchScalingPoint(
        dim=dim,
        target=Target.parse(grid.target).at(alpha, dim, grid.items_of(dim)),
        horizon=grid.steps,
        batch_sizes=[*map(int, scaling.batch_sizes[:-1]), None],
        lrs=[choice.lr for choice in chosen],
        edge=[choice.edge for choice in chosen],
        steps=[[race.steps for race in seeds] for seeds in tuned],
        floor=floor,
        slope=slope,
        misfit=misfit,
        critical=scaling.estimate(steps, scaling.critical),
        overhead=scaling.estimate(steps, scaling.overhead),
        noise_at_zero=average([race.noise_at_zero for race in population]),
        noise_at_target=average([race.noise_at_target for race in population]),
        noise_of_batches=average([race.noise_of_batches for race in population]),
    )


def choose(runs: RacesByTrial) -> Selection:
    """The trial with the fewest steps to the target, mean over seeds.

    Of equals, the step size nearer to the middle of those tried. One that has not reached the
    target counts more than all that have. Where none has, it is the one that has come nearest, and
    that points to no end of what was tried.
    """
    tried, steps = trials(runs), table([runs])
    if np.isfinite(steps).any():
        return Selection.of(tried[int(best(steps[None])[0, 0])], lrs_by_schedule(tried))

    def distance(one: Candidate) -> float:
        races = [race for run, race in runs.items() if (run.schedule, run.lr) == one]
        return float(np.mean([race.distance for race in races]))

    return Selection(*min(tried, key=distance), edge=False)


def trials(runs: RacesByTrial) -> list[Candidate]:
    """Schedules and step sizes of the races at one batch size, from the middle one outwards."""
    tried = {(trial.schedule, trial.lr) for trial in runs}
    sizes = lrs_by_schedule(tried)
    return sorted(tried, key=lambda one: (off_middle(sizes[one[0]], one[1]), one[1], one[0]))


def table(races: Sequence[RacesByTrial]) -> Floats:
    """(S, K, T) steps by seed, batch size and trial; `inf` where the target was not reached."""
    tried = [trials(runs) for runs in races]
    seeds = 1 + max(trial.seed for runs in races for trial in runs)
    steps = np.full((seeds, len(races), max(map(len, tried))), np.inf)
    for place, runs in enumerate(races):
        for trial, race in runs.items():
            if race.steps is not None:
                which = tried[place].index((trial.schedule, trial.lr))
                steps[trial.seed, place, which] = race.steps
    return steps


def average(values: Sequence[float | None]) -> Estimate:
    """Mean over seeds, with its interval; of the seeds that have a value."""
    known = [value for value in values if value is not None]
    return mean(known, POSITIVE) if known else Estimate(None, note="unknown")
