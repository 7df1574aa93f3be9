"""Is it slower? Paired rounds of base, base again and head, judged by what base against itself did.

`base again` is another process with the same files: the difference between the two is what chance,
and the layout of a process, can do.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.measure import Ratio, interleaved, paired_ratio

TOLERANCE = 1.10  # smaller slowdowns pass
FINEST = 1.15  # where chance can do more than this, more rounds are taken
ROUNDS, MOST_ROUNDS = 15, 60
LEVEL = 0.99


class Timing(NamedTuple):
    """How head compares.

    Attributes:
        change: head's time over base's, with its 99% interval.
        noise: what base against itself shows, as a factor above one.
    """

    change: Ratio
    noise: float

    @property
    def chance(self) -> float:
        """How far off the change may be: by the noise, or half its interval."""
        return max(self.noise, math.sqrt(self.change.high / self.change.low))

    @property
    def conclusive(self) -> bool:
        """Whether a slowdown of 30% would have shown."""
        return self.chance < 1.25

    @property
    def slower(self) -> bool:
        """Beyond what passes and what chance does, with nearly all of the interval."""
        return self.change.value > max(TOLERANCE, self.noise) and self.change.low > 1

    def __str__(self) -> str:
        return "{:.3f} [{:.3f} {:.3f}], noise {:.3f}".format(*self.change, self.noise)


def compare(samplers: Mapping[str, Callable[[], float]]) -> Timing:
    """Sample `base`, `again` and `head` until chance is small beside what matters, or for long."""

    def undecided(taken: dict[str, list[float]]) -> Sequence[str]:
        rounds = len(taken["head"])
        look = rounds > 0 and rounds % ROUNDS == 0
        done = look and (rounds >= MOST_ROUNDS or judge(taken).chance < FINEST)
        return () if done else list(taken)

    return judge(interleaved(samplers, undecided))


def judge(taken: Mapping[str, Sequence[float]]) -> Timing:
    """The verdict on rounds of seconds; head is held against the mean, in logarithms, of both."""
    base, again, head = (np.array(taken[name]) for name in ("base", "again", "head"))
    change = paired_ratio(head, np.sqrt(base * again), LEVEL)
    return Timing(change, paired_ratio(again, base, LEVEL).reach)
