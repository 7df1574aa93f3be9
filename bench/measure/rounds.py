"""Interleaved rounds: every way is sampled once a round, in an order of its own."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bench.measure.clock import Clock, Sample
from bench.measure.ratio import LEAST_PAIRS

MOST_CALLS = 20  # of a sample
LEAST_SECONDS = 5e-3  # of a sample: shorter calls are repeated within it
LEAST_ROUNDS, MOST_ROUNDS = LEAST_PAIRS, 30
COLD_ROUNDS = 3


class Samples(NamedTuple):
    """Raw samples of one way: hot ones, one a round, and cold ones."""

    hot: list[Sample]
    cold: list[Sample]


def interleaved(
    runs: Mapping[str, Callable[[], Any]], clock: Clock, seconds: float
) -> dict[str, Samples]:
    """Sample every run, round by round, until each has had its time.

    A round before the first one only tells how many calls make a sample.

    Args:
        runs: by name; all were called before.
        clock: of their device.
        seconds: for each run; six rounds are taken even where that is too little, and then no cold
            ones.
    """
    samples = {name: Samples([], []) for name in runs}
    calls = {name: _calls(clock.hot(run, 1).device) for name, run in runs.items()}
    left = dict.fromkeys(runs, seconds)
    order = random.Random(0)
    for turn in range(MOST_ROUNDS):
        for name in order.sample(list(runs), len(runs)):
            if turn < LEAST_ROUNDS or left[name] > 0:
                sample = clock.hot(runs[name], calls[name])
                samples[name].hot.append(sample)
                left[name] -= calls[name] * sample.device
    for _ in range(COLD_ROUNDS):
        for name in order.sample(list(runs), len(runs)):
            if COLD_ROUNDS * samples[name].hot[-1].device < seconds:
                samples[name].cold.append(clock.cold(runs[name]))
    return samples


def _calls(seconds: float) -> int:
    """Of so many seconds each, to make a sample."""
    return math.ceil(min(MOST_CALLS, LEAST_SECONDS / max(seconds, 1e-9)))
