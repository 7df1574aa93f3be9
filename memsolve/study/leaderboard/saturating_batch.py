"""The saturating batch size: the smallest that recovers nearly as much as the population."""

from collections.abc import Sequence

import numpy as np

from memsolve.engine.results.estimate import (
    POSITIVE,
    Estimate,
    Floats,
    jackknife,
    require_identified,
)

EDGE_FACTOR = 1.01
"""An estimate this close to the smallest or largest batch size is not identified."""

SHARE = 0.8
"""Share of the population's items that counts as nearly all."""


def saturating_batch_size(batch_sizes: Sequence[float], counts: Floats) -> Estimate:
    """The smallest batch size that recovers `SHARE` of the population's items in as many steps.

    The paper's critical batch size is where the number recovered ceases to grow with the batch.
    This is an estimate of it from the counts, interpolated in `log B`, without a law of their
    growth. Where the counts grow slowly between batch sizes it is rough, with a wide interval,
    which covers 88 to 96% in simulations of counts that vary by 5 to 25% from seed to seed.

    Args:
        batch_sizes: (K,) increasing; the population, `inf`, is last.
        counts: (S, K) items recovered, by seed.
    """
    sizes = np.log(np.array(batch_sizes[:-1], dtype=float))
    smallest, largest = batch_sizes[0], batch_sizes[-2]

    def crossing(draws: Floats) -> Floats:
        """(R,) of counts (R, S, K); NaN outside the batch sizes."""
        means = draws.mean(1)
        excess = means[:, :-1] - SHARE * means[:, -1:]
        saturated = excess >= 0
        after = np.where(saturated.any(1), saturated.argmax(1), len(sizes) - 1)
        before = np.maximum(after - 1, 0)
        rows = np.arange(len(means))
        low, high = excess[rows, before], excess[rows, after]
        rise = np.where(high > low, high - low, 1.0)
        share = np.where(saturated.any(1) & (after > 0), -low / rise, 1.0)
        estimates = np.exp(sizes[before] + share * (sizes[after] - sizes[before]))
        inside = (smallest * EDGE_FACTOR < estimates) & (estimates < largest / EDGE_FACTOR)
        return np.asarray(np.where(inside, estimates, np.nan))

    estimate = jackknife([counts], lambda draws: crossing(draws[0]), POSITIVE)
    return require_identified(
        estimate, smallest, largest, f"not inside {smallest:g} to {largest:g}"
    )
