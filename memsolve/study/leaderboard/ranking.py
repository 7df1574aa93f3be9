"""Who is how near to the best, over all memories and numbers of steps: what a leaderboard ranks."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from memsolve.engine import Fit
from memsolve.engine.results.estimate import SHARE, Estimate, Floats, jackknife
from memsolve.study.leaderboard.point import LeaderboardPoint


class Problem(NamedTuple):
    """One memory, by its kind, and a number of steps."""

    alpha: float
    dim: int
    num_items: int
    steps: int


Scores = dict[Problem, dict[str, list[int]]]
"""By problem, what each optimizer has recovered, by seed."""


def scores(fits: Sequence[Fit[LeaderboardPoint]]) -> Scores:
    """Items recovered by problem and optimizer, of problems that all optimizers share."""
    found: Scores = {}
    for fit in fits:
        for point in fit.points:
            for steps, counts in zip(point.horizons, point.recovered, strict=True):
                problem = Problem(fit.alpha, point.dim, point.num_items, steps)
                found.setdefault(problem, {})[fit.optimizer] = counts
    every = {fit.optimizer for fit in fits}
    return {problem: of for problem, of in found.items() if of.keys() == every}


def ranking(fits: Sequence[Fit[LeaderboardPoint]]) -> dict[str, Estimate]:
    """Each optimizer's share of the best, mean over the problems, the largest first.

    On a problem the share is the number of items that an optimizer recovers, mean over seeds,
    over the largest number of any optimizer. The interval is over seeds, which all optimizers
    share, so that both change together.
    Studies that have no problem in common have no ranking.
    """
    names, recovered = _stored(fits)
    if not recovered.size:
        return dict.fromkeys(names, Estimate(None, note="no problem in common"))

    def share(place: int) -> Estimate:
        return jackknife([recovered], lambda draws: _shares(draws[0])[:, place], SHARE)

    found = {name: share(place) for place, name in enumerate(names)}
    return dict(sorted(found.items(), key=lambda entry: -(entry[1].value or 0)))


def behind(fits: Sequence[Fit[LeaderboardPoint]]) -> dict[str, str]:
    """By how much each optimizer's share is less than that of the next better one, as text.

    `0.07 [0.04, 0.10]`: the interval is of the difference on the same seeds, which differs less
    from seed to seed than the shares do. *Within noise* is a difference whose interval holds 0:
    the seeds do not tell which of the two is better. One without an interval says why it has none.
    Each difference is judged by itself.
    """
    order = list(ranking(fits))
    names, recovered = _stored(fits)
    if not recovered.size:
        return dict.fromkeys(names, "-")

    def difference(name: str, above: str) -> str:
        own, other = names.index(name), names.index(above)

        def statistic(draws: list[Floats]) -> Floats:
            shares = _shares(draws[0])
            return np.asarray(shares[:, other] - shares[:, own])

        found = jackknife([recovered], statistic)
        if found.low is None or found.high is None or not found.low <= 0 <= found.high:
            return str(found)
        return f"{found}, within noise"

    later = {name: difference(name, above) for above, name in pairwise(order)}
    return {order[0]: "-"} | later


def _stored(fits: Sequence[Fit[LeaderboardPoint]]) -> tuple[list[str], Floats]:
    """Names (O,), and what they have recovered, (S, P, O), by seed and problem."""
    names = list(dict.fromkeys(fit.optimizer for fit in fits))
    problems = scores(fits).values()
    seeds = min((len(counts) for of in problems for counts in of.values()), default=0)
    table = [[of[name][:seeds] for name in names] for of in problems]
    recovered = np.array(table, dtype=float).reshape(len(problems), len(names), seeds)
    return names, recovered.transpose(2, 0, 1)


def _shares(recovered: Floats) -> Floats:
    """(R, O) shares of the best of (R, S, P, O) items stored."""
    means = recovered.mean(1)
    best = np.maximum(means.max(axis=2, keepdims=True), 1)  # of a problem that none solves
    return np.asarray((means / best).mean(1))


def rank(shares: Mapping[str, Estimate], name: str) -> str:
    """The place of an optimizer, which equals share; `-` where there is no ranking."""
    own = shares[name].value
    if own is None:
        return "-"
    return str(1 + sum((other.value or 0) > own for other in shares.values()))
