"""Interleaved rounds of samples, and ratios of paired samples with an interval."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from bench.measure import Sample

T = TypeVar("T")

MOST_CALLS = 20  # of a sample
LEAST_SECONDS = 5e-3  # of a sample: shorter calls are repeated within it
LEVEL = 0.95
LEAST_ROUNDS, MOST_ROUNDS = 6, 30  # with fewer, not even the extremes enclose the median at LEVEL
COLD_ROUNDS = 3


class Timer(Protocol):
    """Takes samples of one implementation, with warm and with overwritten caches."""

    def hot(self, calls: int) -> Sample: ...

    def cold(self) -> Sample: ...


def interleave(
    samplers: Mapping[str, Callable[[], T]], pending: Callable[[dict[str, list[T]]], Sequence[str]]
) -> dict[str, list[T]]:
    """Take samples round by round; neighbours change, and whatever slows the machine hits all.

    `pending` maps all samples so far to the names to sample in the next round; none ends.
    """
    samples: dict[str, list[T]] = {name: [] for name in samplers}
    order = random.Random(0)
    while names := pending(samples):
        for name in order.sample(names, len(names)):
            samples[name].append(samplers[name]())
    return samples


def sample(
    timers: Mapping[str, Timer], seconds: float
) -> tuple[dict[str, list[Sample]], dict[str, list[Sample]]]:
    """Hot samples of every timer, one a round, until each has had its time; then cold ones.

    All were called before. A call before the first round only tells how many calls make a sample.
    Six rounds are taken even where `seconds` are too few, and then no cold ones.
    """
    calls = {name: _calls(timer.hot(1).device) for name, timer in timers.items()}

    def has_time(name: str, hot: list[Sample]) -> bool:
        spent = calls[name] * sum(sample.device for sample in hot)
        return len(hot) < LEAST_ROUNDS or (len(hot) < MOST_ROUNDS and spent < seconds)

    hot = interleave(
        {name: partial(timer.hot, calls[name]) for name, timer in timers.items()},
        lambda samples: [name for name in samples if has_time(name, samples[name])],
    )
    quick = [name for name in timers if COLD_ROUNDS * hot[name][-1].device < seconds]
    cold = interleave(
        {name: timers[name].cold for name in quick},
        lambda samples: [name for name in samples if len(samples[name]) < COLD_ROUNDS],
    )
    return hot, cold


def _calls(seconds: float) -> int:
    """Calls of so many seconds each that make a sample."""
    return math.ceil(min(MOST_CALLS, LEAST_SECONDS / max(seconds, 1e-9)))


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
        """Whether all of it lies beyond the reach of an A/A run."""
        return self.low > calibration.reach or self.high < 1 / calibration.reach


def paired_ratio(theirs: ArrayLike, ours: ArrayLike, level: float = LEVEL) -> Ratio:
    """Median over the rounds of `theirs / ours`: above one where ours is faster.

    Samples of a round were taken one after the other, so that whatever slows the machine for
    longer than a round cancels. Where one of them has fewer rounds, the first ones count. The
    interval is between order statistics (the sign test's), and assumes no distribution.

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
