"""Who is how near to the best, over all memories and numbers of steps: what a leaderboard ranks."""

from collections.abc import Sequence

import numpy as np

from memsolve.engine import Fit
from memsolve.engine.fit import Estimate, Floats, bootstrap
from memsolve.study.standing import Standing

Problem = tuple[float, int, int]
"""Alpha, `d`, and number of steps."""

Scores = dict[Problem, dict[str, list[int]]]
"""By problem, what each optimizer has stored, by seed."""


def scores(fits: Sequence[Fit[Standing]]) -> Scores:
    """What was stored, by problem and optimizer."""
    found: Scores = {}
    for fit in fits:
        for point in fit.points:
            for steps, counts in zip(point.horizons, point.stored, strict=True):
                found.setdefault((fit.alpha, point.dim, steps), {})[fit.optimizer] = counts
    return found


def ranking(fits: Sequence[Fit[Standing]]) -> dict[str, Estimate]:
    """Each optimizer's share of the best, mean over the problems, the largest first.

    On a problem the share is what an optimizer has stored, mean over seeds, over the most that any
    has; 0 where it was not measured. The interval is bootstrapped over seeds, which all optimizers
    share, so that both change together.
    """
    names = list(dict.fromkeys(fit.optimizer for fit in fits))
    problems = scores(fits)
    seeds = min(len(counts) for of in problems.values() for counts in of.values())
    table = np.array(
        [[of.get(name, [0] * seeds)[:seeds] for name in names] for of in problems.values()],
        dtype=float,
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
