"""Ratios of paired samples, with an interval, and what an A/A run says of differences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


class Ratio(NamedTuple):
    """Median of the paired ratios and its bootstrap interval."""

    value: float
    low: float
    high: float

    def differs(self, calibration: "Ratio") -> bool:
        """Whether it lies beyond one by more than an A/A run did, interval included."""
        noise = max(abs(np.log(end)) for end in (calibration.low, calibration.high))
        return bool(np.log(self.low) > noise or np.log(self.high) < -noise)


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Median over the rounds of `theirs / ours`: above one where ours is faster.

    Samples of a round were taken one after the other, so that whatever slows the machine for
    longer than a round cancels. Where one way has fewer rounds, the first ones count.
    """
    rounds = min(len(theirs), len(ours))
    ratios = np.log(np.array(theirs[:rounds]) / np.array(ours[:rounds]))
    draws = np.random.default_rng(0).integers(rounds, size=(RESAMPLES, rounds))
    medians = np.median(ratios[draws], axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(*(float(np.exp(log)) for log in (np.median(ratios), low, high)))
