"""What a leaderboard asks of its trials: the most items by some step, or a target soonest."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from memsolve import theory
from memsolve.study.board import Board, Entry
from memsolve.study.trajectory import Trajectory, choose
from memsolve.study.trials import Place, T
from memsolve.study.tuning import Chosen, Tried, off_middle, sizes_by_schedule

TARGET = 0.5
"""Of `theory.limit`: the items to recover for the critical batch size."""


class Aim(NamedTuple):
    """What the best trial is the best in.

    Attributes:
        steps: of a run.
        goal: items, to be recovered soonest; infinite where the most by the last step are asked.
    """

    steps: int
    goal: float = math.inf

    def choose(self, runs: Mapping[T, Trajectory]) -> Chosen:
        """The best of the trials of one place."""
        if math.isfinite(self.goal):
            return quickest(runs, self.goal)
        return choose({run: result.after(self.steps) for run, result in runs.items()})


def aims(grid: Board, place: Place) -> list[Aim]:
    """Of one place: the horizons on the population, and at the smallest `d` the target."""
    target = [Aim(grid.steps, goal(place.dim, grid.items_of(place.dim)))]
    if place.batch_size is not None:
        return target
    return [*map(Aim, grid.horizons), *(target if place.dim == min(grid.dims) else [])]


def goal(dim: int, num_items: int) -> int:
    """Items to recover for the critical batch size."""
    return math.ceil(TARGET * theory.limit(dim, num_items))


def quickest(runs: Mapping[T, Trajectory], items: float) -> Chosen:
    """The trial that has so many items after the fewest steps, mean over seeds.

    Of equals, the step size nearer to the middle; where none gets there, what stores most.
    """
    found: dict[Tried, list[float]] = {}
    for run, result in runs.items():
        found.setdefault((run.schedule, run.step_size), []).append(result.steps_to(items))
    means = {tried: float(np.mean(steps)) for tried, steps in found.items()}
    if not np.isfinite([*means.values()]).any():
        return choose(runs)
    sizes = sizes_by_schedule(means)
    best = min(means, key=lambda tried: (means[tried], off_middle(sizes[tried[0]], tried[1])))
    return Chosen.of(best, sizes)


def shown(grid: Board, place: Place, aim: Aim, chosen: Chosen) -> list[Entry]:
    """The runs that show a chosen trial, one a seed, none of which it was tuned on."""
    made = *place[:3], grid.items_of(place.dim), place.batch_size
    return [Entry(*made, seed, chosen.schedule, chosen.step_size, aim.steps) for seed in grid.shown]
