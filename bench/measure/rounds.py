"""Interleaved rounds: every sampler is asked once a round, in an order drawn anew."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from bench.measure.clock import Clock, Sample
from bench.measure.ratio import LEAST_PAIRS

T = TypeVar("T")
Taken = dict[str, list[T]]

MOST_CALLS = 20  # of a sample
LEAST_SECONDS = 5e-3  # of a sample: shorter calls are repeated within it
LEAST_ROUNDS, MOST_ROUNDS = LEAST_PAIRS, 30
COLD_ROUNDS = 3


def interleaved(
    samplers: Mapping[str, Callable[[], T]], wanted: Callable[[Taken[T]], Sequence[str]]
) -> Taken[T]:
    """Ask samplers round by round; neighbours change, and whatever slows the machine hits all.

    Args:
        samplers: by name; each takes one sample.
        wanted: which of them the next round asks, given all samples so far; none ends.
    """
    taken: Taken[T] = {name: [] for name in samplers}
    order = random.Random(0)
    while names := wanted(taken):
        for name in order.sample(names, len(names)):
            taken[name].append(samplers[name]())
    return taken


class Samples(NamedTuple):
    """Raw samples of one way: hot ones, one a round, and cold ones."""

    hot: list[Sample]
    cold: list[Sample]


def sampled(
    runs: Mapping[str, Callable[[], Any]], clock: Clock, seconds: float
) -> dict[str, Samples]:
    """Sample every run until each has had its time.

    A call before the first round only tells how many make a sample.

    Args:
        runs: by name; all were called before.
        clock: of their device.
        seconds: for each run; six rounds are taken even where that is too little, and then no cold
            ones.
    """
    calls = {name: _calls(clock.hot(run, 1).device) for name, run in runs.items()}

    def has_time(name: str, hot: list[Sample]) -> bool:
        spent = calls[name] * sum(sample.device for sample in hot)
        return len(hot) < LEAST_ROUNDS or (len(hot) < MOST_ROUNDS and spent < seconds)

    hot = interleaved(
        {name: partial(clock.hot, run, calls[name]) for name, run in runs.items()},
        lambda taken: [name for name in taken if has_time(name, taken[name])],
    )
    quick = [name for name in runs if COLD_ROUNDS * hot[name][-1].device < seconds]
    cold = interleaved(
        {name: partial(clock.cold, runs[name]) for name in quick},
        lambda taken: [name for name in taken if len(taken[name]) < COLD_ROUNDS],
    )
    return {name: Samples(hot[name], cold.get(name, [])) for name in runs}


def _calls(seconds: float) -> int:
    """Of so many seconds each, to make a sample."""
    return math.ceil(min(MOST_CALLS, LEAST_SECONDS / max(seconds, 1e-9)))
