"""Ratios of paired samples, with an interval: of tables, of the gate, and of their A/A runs."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95
LEAST_PAIRS = 6  # of fewer, not even the extremes enclose the median at that level


class Ratio(NamedTuple):
    """Median of the paired ratios, and an interval that encloses it at a level."""

    value: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """How far from one its interval reaches, as a factor above one: of an A/A run, noise."""
        return max(self.high, 1 / self.low)

    def differs(self, calibration: "Ratio") -> bool:
        """Whether all of it lies beyond what an A/A run reaches."""
        return self.low > calibration.reach or self.high < 1 / calibration.reach


def paired_ratio(theirs: ArrayLike, ours: ArrayLike, level: float = LEVEL) -> Ratio:
    """Median over the rounds of `theirs / ours`: above one where ours is faster.

    Samples of a round were taken one after the other, so that whatever slows the machine for
    longer than a round cancels. Where one way has fewer rounds, the first ones count. The interval
    is between order statistics (the sign test's), and assumes nothing of how the ratios are
    distributed.

    Raises:
        ValueError: too few rounds for the level.
    """
    top, bottom = np.asarray(theirs), np.asarray(ours)
    rounds = min(len(top), len(bottom))
    outside = [math.comb(rounds, cut) / 2 ** (rounds - 1) for cut in range(rounds // 2)]
    cut = int((np.cumsum(outside) <= 1 - level).sum()) - 1  # ratios to leave out on each side
    if cut < 0:
        raise ValueError(f"{rounds} paired samples are too few for an interval of {level:.0%}")
    ratios = np.sort(top[:rounds] / bottom[:rounds])
    return Ratio(float(np.median(ratios)), float(ratios[cut]), float(ratios[-1 - cut]))
