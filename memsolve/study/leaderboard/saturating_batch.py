"""The batch size at which larger ones cease to pay: it stores nearly as much as the population."""

from collections.abc import Sequence

import numpy as np

from memsolve.engine.results.estimate import (
    POSITIVE,
    Estimate,
    Floats,
    jackknife,
    require_identified,
)

INSIDE = 1.01
"""How far inside the batch sizes an estimate must lie."""

SHARE = 0.8
"""Of what is stored of the population, that counts as nearly all."""


def enough(batch_sizes: Sequence[float], counts: Floats) -> Estimate:
    """The smallest batch size that stores `SHARE` of what the population does, in equal steps.

    The paper's critical batch size is where the number stored ceases to grow with the batch. Here
    that is read off the counts, interpolated in `log B`, without a law of how they grow. Counts
    that rise little between the batch sizes make it a rough number: then its interval is wide,
    and covers 88 to 96% in simulations of counts that vary by 5 to 25% from seed to seed.

    Args:
        batch_sizes: (K,) increasing; the population, `inf`, is last.
        counts: (S, K) items recovered, by seed.
    """
    sizes = np.log(np.array(batch_sizes[:-1], dtype=float))

    def crossing(draws: Floats) -> Floats:
        """(R,) of counts (R, S, K); NaN where it is not inside the batch sizes."""
        means = draws.mean(1)
        excess = means[:, :-1] - SHARE * means[:, -1:]
        there = excess >= 0
        after = np.where(there.any(1), there.argmax(1), len(sizes) - 1)
        before = np.maximum(after - 1, 0)
        rows = np.arange(len(means))
        low, high = excess[rows, before], excess[rows, after]
        rise = np.where(high > low, high - low, 1.0)
        share = np.where(there.any(1) & (after > 0), -low / rise, 1.0)
        found = np.exp(sizes[before] + share * (sizes[after] - sizes[before]))
        inside = (smallest * INSIDE < found) & (found < largest / INSIDE)
        return np.asarray(np.where(inside, found, np.nan))

    smallest, largest = batch_sizes[0], batch_sizes[-2]
    found = jackknife([counts], lambda draws: crossing(draws[0]), POSITIVE)
    return require_identified(found, smallest, largest, f"not inside {smallest:g} to {largest:g}")
