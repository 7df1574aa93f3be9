"""The batch size at which larger ones cease to pay: it stores nearly as much as the population."""

from collections.abc import Sequence

import numpy as np

from memsolve.engine.fit import Estimate, Floats, bootstrap

INSIDE = 1.01
"""How far inside the batch sizes an interval ends: what was brought to an end stands there."""

SHARE = 0.8
"""Of what is stored of the population, that counts as nearly all."""


def enough(batch_sizes: Sequence[float], counts: Floats) -> Estimate:
    """The smallest batch size that stores `SHARE` of what the population does, in equal steps.

    The paper's critical batch size is where the number stored ceases to grow with the batch. Here
    that is read off the counts, interpolated in `log B`, without a law of how they grow. It is
    identified if the interval lies inside the batch sizes.

    Args:
        batch_sizes: (K,) increasing; the population, `inf`, is last.
        counts: (S, K) items stored, by seed.
    """
    sizes = np.log(np.array(batch_sizes[:-1], dtype=float))

    def crossing(draws: Floats) -> Floats:
        """(R,) of resampled counts (R, S, K), brought to the ends of the batch sizes."""
        means = draws.mean(1)
        excess = means[:, :-1] - SHARE * means[:, -1:]
        there = excess >= 0
        after = np.where(there.any(1), there.argmax(1), len(sizes) - 1)
        before = np.maximum(after - 1, 0)
        rows = np.arange(len(means))
        low, high = excess[rows, before], excess[rows, after]
        rise = np.where(high > low, high - low, 1.0)
        share = np.where(there.any(1) & (after > 0), -low / rise, 1.0)
        found: Floats = np.exp(sizes[before] + share * (sizes[after] - sizes[before]))
        return found

    found = bootstrap([counts], lambda draws: crossing(draws[0]))
    smallest, largest = batch_sizes[0], batch_sizes[-2]
    bar = found.bar
    if bar is None or not smallest * INSIDE < bar[1] <= bar[2] < largest / INSIDE:
        span = "" if bar is None else f"{bar[1]:.3g} to {bar[2]:.3g} is "
        return Estimate(None, note=f"not identified: {span}not inside {smallest} to {largest}")
    return found
