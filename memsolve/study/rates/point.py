"""The point of `rates`: items recovered after one step at one `d`, with the best trial there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from memsolve.engine import Point
from memsolve.engine.results.estimate import COUNT, Estimate, Floats, jackknife, power_law_exponent
from memsolve.study.rates.grid import RatesGrid, RatesKey
from memsolve.study.rates.selection import Runs, counts_after, with_items
from memsolve.study.training.grid import Candidate, GradientKind
from memsolve.study.training.selection import edges_of

LEAST_RATIO = 8
"""Facts `N` for each recovered item, below which `N` limits the count."""


@dataclass(frozen=True)
class RatesPoint(Point):
    """Items recovered after one step at one `d`.

    Attributes:
        num_items: number of facts `N`.
        gradient: `exact` or `thresholded`.
        step: after which items are counted.
        trial_lrs, trial_ratios: (K,) learning rate and ratio of each candidate that was measured
            with all facts.
        trial_recovered: (K, S) items that it recovered, by seed: the mean over the seed's memories.
        edges: directions in which the best candidate is outermost among all of the search.
    """

    axes: ClassVar = {
        "trial_lrs": "K",
        "trial_ratios": "K",
        "trial_recovered": "K S",
        "edges": "e",
    }

    num_items: int
    gradient: GradientKind
    step: int
    trial_lrs: list[float]
    trial_ratios: list[float]
    trial_recovered: list[list[float]]
    edges: list[str]

    @property
    def best(self) -> int:
        """Index of the candidate with the most items recovered, mean over seeds."""
        return int(np.argmax(np.mean(self.trial_recovered, axis=1)))

    @property
    def recovered(self) -> list[float]:
        """(S,) items recovered by the best candidate, by seed."""
        return self.trial_recovered[self.best]

    @property
    def mean(self) -> float:
        """Items recovered by the best candidate, mean over seeds."""
        return float(np.mean(self.recovered))

    @property
    def items(self) -> Estimate:
        """The mean with its interval; the best candidate is selected anew without each seed."""
        return jackknife([np.array(self.trial_recovered, dtype=float).T], _most_items, COUNT)

    @property
    def candidate(self) -> Candidate:
        """The best candidate."""
        return Candidate("geometric", self.trial_lrs[self.best], self.trial_ratios[self.best])

    @property
    def has_enough_items(self) -> bool:
        """Whether `N` is large enough not to limit the count."""
        return self.num_items >= LEAST_RATIO * self.mean


def rates_points(grid: RatesGrid, key: RatesKey, runs: Runs) -> list[RatesPoint]:
    """The point after each step, from the runs at one key."""
    searched = with_items(runs, grid.search_items_of(key.dim))
    reported = with_items(runs, grid.items_of(key.dim))

    def point(step: int) -> RatesPoint:
        counts = counts_after(reported, step)
        point = RatesPoint(
            dim=key.dim,
            num_items=grid.items_of(key.dim),
            gradient=key.gradient,
            step=step,
            trial_lrs=[candidate.lr for candidate in counts],
            trial_ratios=[candidate.ratio for candidate in counts],
            trial_recovered=[seeds.tolist() for seeds in counts.values()],
            edges=[],
        )
        candidates = counts_after(searched, step)
        return replace(point, edges=list(edges_of(point.candidate, candidates, step)))

    return [point(step) for step in range(1, grid.steps + 1)]


def rate(points: Sequence[RatesPoint]) -> Estimate:
    """The exponent in `d` after one step, from the points with enough items.

    The best candidate is selected anew whenever a seed is left out.
    """
    enough = [point for point in points if point.has_enough_items]
    if len(enough) < 2 <= len(points):
        dims = ", ".join(str(point.dim) for point in points if not point.has_enough_items)
        return Estimate(None, note=f"N too small at d = {dims}")

    counts = [np.array(point.trial_recovered, dtype=float).T for point in enough]
    return power_law_exponent([point.dim for point in enough], counts, [_most] * len(counts))


def _most(draws: Floats) -> Floats:
    """(R,) the most items of any candidate, mean over seeds, of (R, S, K) counts."""
    best: Floats = draws.mean(1).max(1)
    return best


def _most_items(draws: list[Floats]) -> Floats:
    return _most(draws[0])
