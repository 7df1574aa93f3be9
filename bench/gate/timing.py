"""Is it slower? Paired rounds of base, base again and head, judged by what base against itself did.

Each round takes the three one after the other, shuffled, and each sample is the quickest of a few
tries. `base again` is another process with the same files: the difference
between the two is what chance, and the layout of a process, can do.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Sampler = Callable[[], float]

TOLERANCE = 1.10  # smaller slowdowns pass
FINEST = 1.15  # where chance can do more than this, more rounds are taken
ROUNDS, MOST_ROUNDS = 15, 60
LEVEL = 0.99
RESAMPLES = 2000


class Three(NamedTuple):
    """The same case in three processes."""

    base: Sampler
    again: Sampler
    head: Sampler


@dataclass(frozen=True)
class Timing:
    """How head compares.

    Attributes:
        ratio: head's time over base's, median of the rounds.
        low, high: its 99% interval.
        noise: what base against itself shows, as a factor above one.
    """

    ratio: float
    low: float
    high: float
    noise: float

    @property
    def chance(self) -> float:
        """How far off the ratio may be: by the noise, or half its interval."""
        return max(self.noise, math.sqrt(self.high / self.low))

    @property
    def conclusive(self) -> bool:
        """Whether a slowdown of 30% would have shown."""
        return self.chance < 1.25

    @property
    def slower(self) -> bool:
        """Beyond what passes and what chance does, with nearly all of the interval."""
        return self.ratio > max(TOLERANCE, self.noise) and self.low > 1

    def __str__(self) -> str:
        return f"{self.ratio:.3f} [{self.low:.3f} {self.high:.3f}], noise {self.noise:.3f}"


def compare(three: Three) -> Timing:
    """Sample round by round until chance is small beside what matters, or for long enough."""
    shuffling = np.random.default_rng(0)
    rounds: list[tuple[float, float, float]] = []
    while True:
        rounds += [_round(three, shuffling.permutation(3)) for _ in range(ROUNDS)]
        timing = judge(rounds)
        if timing.chance < FINEST or len(rounds) >= MOST_ROUNDS:
            return timing


def judge(rounds: Iterable[tuple[float, float, float]]) -> Timing:
    """The verdict on rounds of (base, again, head) seconds."""
    base, again, head = np.log(np.array(list(rounds))).T
    change = head - (base + again) / 2
    low, high = _interval(change)
    noise = max(abs(end) for end in _interval(again - base))
    return Timing(*(float(np.exp(log)) for log in (np.median(change), low, high, noise)))


def _round(three: Three, order: Iterable[int]) -> tuple[float, float, float]:
    seconds = [0.0] * 3
    for index in order:
        seconds[index] = three[index]()
    return seconds[0], seconds[1], seconds[2]


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    ends = np.quantile(np.median(values[draws], axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(ends[0]), float(ends[1])
