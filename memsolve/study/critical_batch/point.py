"""The point of `critical-batch`: how steps to a target scale with the batch size at one `d`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve.engine import Point
from memsolve.engine.results.estimate import POSITIVE, Estimate, mean
from memsolve.study.critical_batch.batch_scaling import BatchScaling
from memsolve.study.critical_batch.grid import RaceGrid
from memsolve.study.critical_batch.selection import RacesByTrial, select_by_steps, steps_table
from memsolve.study.critical_batch.target import Target


@dataclass(frozen=True)
class BatchScalingPoint(Point):
    """How the steps to a target fall with the batch size at one `d`.

    Attributes:
        target: items recovered, or loss, to be reached.
        horizon: steps after which a race is given up.
        batch_sizes: (K,) increasing; the population, None, is last.
        lrs: (K,) of the selected candidate at each batch size.
        at_edge: (K,) whether it is the smallest or largest of the trials.
        steps: (K, S) of the selected races, by seed; None if the target was not reached.
        floor, slope, misfit: of the curve `S_min (1 + B_crit / B)`, `BatchScaling.model`, whether
            identified or not; None if no race reached the target.
        critical: its `B_crit`.
        overhead: the batch size at 20% overhead over linear scaling.
        noise_at_zero, noise_at_target: exact noise scale at `W = 0`, and at the weight with which
            the selected race on the population reached the target, mean over seeds.
        noise_of_batches: two-batch estimate of `noise_at_target`.
    """

    axes: ClassVar = {"batch_sizes": "K", "lrs": "K", "at_edge": "K", "steps": "K S"}

    target: float
    horizon: int
    batch_sizes: list[int | None]
    lrs: list[float]
    at_edge: list[bool]
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
        """(K,) steps, mean over seeds: a lower bound if the target was not reached."""
        return [
            float(np.mean([self.horizon if steps is None else steps for steps in seeds]))
            for seeds in self.steps
        ]

    def format_batch_sizes(self, mask: Sequence[bool]) -> str:
        """The batch sizes that a mask selects, as text: `B = 1, 4, population`."""
        selected = [
            size or "population" for size, keep in zip(self.batch_sizes, mask, strict=True) if keep
        ]
        return f"B = {', '.join(map(str, selected))}"


def batch_scaling_point(
    grid: RaceGrid, alpha: float, dim: int, scaling: BatchScaling, races: Sequence[RacesByTrial]
) -> BatchScalingPoint:
    """The point of the races on one memory size, given those at every batch size."""
    selections = [select_by_steps(by_trial, grid.steps) for by_trial in races]
    selected = [
        [result for trial, result in by_trial.items() if trial.candidate == selection.candidate]
        for by_trial, selection in zip(races, selections, strict=True)
    ]
    steps = steps_table(races)
    model = scaling.model(steps[None])
    floor, slope, misfit = (float(value) if math.isfinite(value) else None for (value,) in model)
    population = selected[-1]
    return BatchScalingPoint(
        dim=dim,
        target=Target.parse(grid.target).at(alpha, dim, grid.items_of(dim)),
        horizon=grid.steps,
        batch_sizes=[*map(int, scaling.batch_sizes[:-1]), None],
        lrs=[selection.lr for selection in selections],
        at_edge=[selection.at_edge for selection in selections],
        steps=[[result.steps for result in seeds] for seeds in selected],
        floor=floor,
        slope=slope,
        misfit=misfit,
        critical=scaling.estimate(steps, scaling.critical),
        overhead=scaling.estimate(steps, scaling.overhead),
        noise_at_zero=mean_over_seeds([result.noise_at_zero for result in population]),
        noise_at_target=mean_over_seeds([result.noise_at_target for result in population]),
        noise_of_batches=mean_over_seeds([result.noise_of_batches for result in population]),
    )


def mean_over_seeds(values: Sequence[float | None]) -> Estimate:
    """Mean over the seeds that have a value, with its interval."""
    numbers = [value for value in values if value is not None]
    return mean(numbers, POSITIVE) if numbers else Estimate(None, note="unknown")
