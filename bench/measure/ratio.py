"""Ratios of paired samples, with an interval, and what an A/A run says of differences."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
LEAST_PAIRS = 6  # of fewer, not even the extremes enclose the median at that level


class Ratio(NamedTuple):
    """Median of the paired ratios, and an interval that encloses it with at least 95%."""

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
    longer than a round cancels. Where one way has fewer rounds, the first ones count. The interval
    is between order statistics, and assumes nothing of how the ratios are distributed.

    Raises:
        ValueError: fewer than six rounds.
    """
    rounds = min(len(theirs), len(ours))
    if rounds < LEAST_PAIRS:
        raise ValueError(f"{rounds} paired samples; an interval needs at least {LEAST_PAIRS}")
    ratios = np.sort(np.array(theirs[:rounds]) / np.array(ours[:rounds]))
    cut = _cut(rounds)
    return Ratio(float(np.median(ratios)), float(ratios[cut]), float(ratios[-1 - cut]))


def _cut(rounds: int) -> int:
    """How many of the sorted ratios to leave out on each side: as many as the sign test allows."""
    missed = 2 * np.cumsum([math.comb(rounds, cut) / 2**rounds for cut in range(rounds // 2)])
    return int((missed <= 1 - LEVEL).sum()) - 1
