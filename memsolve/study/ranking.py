"""Who is how near to the best, over all memories and numbers of steps: what a leaderboard ranks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from memsolve.engine import Fit
from memsolve.engine.fit import Estimate, Floats, bootstrap
from memsolve.study.standing import Standing


class Problem(NamedTuple):
    """One memory, by its kind, and a number of steps."""

    alpha: float
    dim: int
    num_items: int
    steps: int


Scores = dict[Problem, dict[str, list[int]]]
"""By problem, what each optimizer has stored, by seed."""


def scores(fits: Sequence[Fit[Standing]]) -> Scores:
    """What was stored, by problem and optimizer; of problems that all of them were measured on."""
    found: Scores = {}
    for fit in fits:
        for point in fit.points:
            for steps, counts in zip(point.horizons, point.stored, strict=True):
                problem = Problem(fit.alpha, point.dim, point.num_items, steps)
                found.setdefault(problem, {})[fit.optimizer] = counts
    every = {fit.optimizer for fit in fits}
    return {problem: of for problem, of in found.items() if of.keys() == every}


def ranking(fits: Sequence[Fit[Standing]]) -> dict[str, Estimate]:
    """Each optimizer's share of the best, mean over the problems, the largest first.

    On a problem the share is what an optimizer has stored, mean over seeds, over the most that any
    has. The interval is bootstrapped over seeds, which all optimizers share, so that both change
    together. Studies that have no problem in common have no ranking.
    """
    names = list(dict.fromkeys(fit.optimizer for fit in fits))
    problems = scores(fits)
    if not problems:
        return dict.fromkeys(names, Estimate(None, note="no problem in common"))
    seeds = min(len(counts) for of in problems.values() for counts in of.values())
    table = np.array(
        [[of[name][:seeds] for name in names] for of in problems.values()], dtype=float
    )  # (P, O, S)

    def shares(draws: Floats) -> Floats:
        """(R, O) of resampled seeds (R, S); few seeds, few different resamples."""
        rows, places = np.unique(np.sort(draws, axis=1), axis=0, return_inverse=True)
        stored = table[:, :, rows.astype(int)].mean(3)  # (P, O, R)
        best = np.maximum(stored.max(axis=1, keepdims=True), 1)  # of a problem that none solves
        return np.asarray((stored / best).mean(0).T[places.reshape(-1)])

    def share(place: int) -> Estimate:
        return bootstrap([np.arange(float(seeds))], lambda draws: shares(draws[0])[:, place])

    found = {name: share(place) for place, name in enumerate(names)}
    return dict(sorted(found.items(), key=lambda entry: -(entry[1].value or 0)))


def rank(shares: Mapping[str, Estimate], name: str) -> str:
    """The place of an optimizer, which equals share; `-` where there is no ranking."""
    own = shares[name].value
    if own is None:
        return "-"
    return str(1 + sum((other.value or 0) > own for other in shares.values()))
