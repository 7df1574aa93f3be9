"""Interleaved rounds: every way is sampled once a round, in an order that turns."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bench.measure.clock import Clock, Sample

LEAST_SECONDS = 5e-3  # of a sample: shorter calls are repeated within it
MOST_CALLS = 20  # of a sample: about what a GPU's queue holds of fifty launches each
LEAST_ROUNDS, MOST_ROUNDS = 3, 30
COLD_ROUNDS = 3


class Samples(NamedTuple):
    """Raw samples of one way: hot ones, one a round, and cold ones."""

    hot: list[Sample]
    cold: list[Sample]


def interleaved(
    runs: Mapping[str, Callable[[], Any]], clock: Clock, seconds: float
) -> dict[str, Samples]:
    """Sample every run, round by round, until each has had its time.

    Args:
        runs: by name; all were called before.
        clock: of their device.
        seconds: for each run; three rounds are taken even where that is too little, and then
            no cold ones.
    """
    names = list(runs)
    samples = {name: Samples([], []) for name in names}
    calls = dict.fromkeys(names, 1)
    left = dict.fromkeys(names, seconds)

    def turned(turn: int) -> list[str]:
        return names[turn % len(names) :] + names[: turn % len(names)]

    for turn in range(MOST_ROUNDS):
        for name in turned(turn):
            if turn < LEAST_ROUNDS or left[name] > 0:
                sample = clock.hot(runs[name], calls[name])
                samples[name].hot.append(sample)
                left[name] -= calls[name] * sample.device
                calls[name] = min(MOST_CALLS, max(1, math.ceil(LEAST_SECONDS / sample.device)))
    for turn in range(COLD_ROUNDS):
        for name in turned(turn):
            if COLD_ROUNDS * samples[name].hot[-1].device < seconds:
                samples[name].cold.append(clock.cold(runs[name]))
    return samples
