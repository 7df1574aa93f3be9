"""The ranking of a leaderboard: shares of the best, over all memories and numbers of steps."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from memsolve.engine import Fit
from memsolve.engine.results.estimate import SHARE, Estimate, Floats, jackknife
from memsolve.study.leaderboard.point import LeaderboardPoint


class Problem(NamedTuple):
    """A kind of memory, and a number of steps."""

    alpha: float
    dim: int
    num_items: int
    steps: int


Scores = dict[Problem, dict[str, list[int]]]
"""For each problem, the items that each optimizer has recovered, by seed."""


def scores(fits: Sequence[Fit[LeaderboardPoint]]) -> Scores:
    """Items recovered by problem and optimizer, of the problems that all optimizers have."""
    by_problem: Scores = {}
    for fit in fits:
        for point in fit.points:
            for steps, counts in zip(point.horizons, point.recovered, strict=True):
                problem = Problem(fit.alpha, point.dim, point.num_items, steps)
                by_problem.setdefault(problem, {})[fit.optimizer] = counts
    names = {fit.optimizer for fit in fits}
    return {
        problem: by_optimizer
        for problem, by_optimizer in by_problem.items()
        if by_optimizer.keys() == names
    }


def ranking(fits: Sequence[Fit[LeaderboardPoint]]) -> dict[str, Estimate]:
    """Each optimizer's share of the best, mean over problems, the largest first.

    On a problem the share is the number of items that an optimizer recovers, mean over seeds,
    divided by the largest such number of any optimizer. The interval is over seeds; all optimizers
    have the same ones, so numerator and denominator are resampled as pairs.
    Studies without a common problem have no ranking.
    """
    names, recovered = _recovered(fits)
    if not recovered.size:
        return dict.fromkeys(names, Estimate(None, note="no problem in common"))

    def share(column: int) -> Estimate:
        return jackknife([recovered], lambda draws: _shares(draws[0])[:, column], SHARE)

    shares = {name: share(column) for column, name in enumerate(names)}
    return dict(sorted(shares.items(), key=lambda entry: -(entry[1].value or 0)))


def gaps(fits: Sequence[Fit[LeaderboardPoint]]) -> dict[str, str]:
    """The gap between each optimizer's share and that of the next better one, as text.

    `0.07 [0.04, 0.10]`: the interval is of the difference on the same seeds, which varies less
    from seed to seed than the shares do. A difference is *within noise* if its interval contains
    0: the seeds do not decide which of the two is better. Without an interval the text says why.
    The intervals are not corrected for multiple comparisons.
    """
    order = list(ranking(fits))
    names, recovered = _recovered(fits)
    if not recovered.size:
        return dict.fromkeys(names, "-")

    def gap(name: str, better: str) -> str:
        own, other = names.index(name), names.index(better)

        def statistic(draws: list[Floats]) -> Floats:
            shares = _shares(draws[0])
            return np.asarray(shares[:, other] - shares[:, own])

        estimate = jackknife([recovered], statistic)
        if estimate.low is None or estimate.high is None or not estimate.low <= 0 <= estimate.high:
            return str(estimate)
        return f"{estimate}, within noise"

    return {order[0]: "-"} | {name: gap(name, better) for better, name in pairwise(order)}


def _recovered(fits: Sequence[Fit[LeaderboardPoint]]) -> tuple[list[str], Floats]:
    """Names (O,), and the items that they have recovered, (S, P, O), by seed and problem."""
    names = list(dict.fromkeys(fit.optimizer for fit in fits))
    problems = scores(fits).values()
    seeds = min(
        (len(counts) for by_optimizer in problems for counts in by_optimizer.values()), default=0
    )
    table = [[by_optimizer[name][:seeds] for name in names] for by_optimizer in problems]
    recovered = np.array(table, dtype=float).reshape(len(problems), len(names), seeds)
    return names, recovered.transpose(2, 0, 1)


def _shares(recovered: Floats) -> Floats:
    """(R, O) shares of the best, of (R, S, P, O) items recovered."""
    means = recovered.mean(1)
    best = np.maximum(
        means.max(axis=2, keepdims=True), 1
    )  # at least 1: some problem may have no item recovered
    return np.asarray((means / best).mean(1))


def rank(shares: Mapping[str, Estimate], name: str) -> str:
    """The rank of an optimizer, the same for equal shares; `-` if there is no ranking."""
    own = shares[name].value
    if own is None:
        return "-"
    return str(1 + sum((other.value or 0) > own for other in shares.values()))
