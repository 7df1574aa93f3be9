"""A simulation of sweeps: cells over workers, with the search of tuning (derived).

A `Key` is tuned by itself, in rounds: a round's cells depend on all results of the one before. As
in `memsolve.engine.parallel`, cells that become ready together are submitted longest first, and
workers take them in the order of submission.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from memsolve.study.training.search import FIRST, PER_ROUND, ROUNDS

OPTIMIZERS, ALPHAS, DIMS, SEEDS = 3, 3, (64, 128, 256), 3
"""Of the tuned study: 27 keys, 1944 runs."""

ONE_STEP_DIMS, ONE_STEP_SEEDS = (64, 128, 256, 512), 5
"""Of the study of one step: 60 memories, whose optimizers share them."""

SPREAD = 0.5
"""Standard deviation of the logarithm of a run's time: runs that diverge end early."""

DRAWS = 8
"""Sets of durations, over which the efficiency is a mean."""


class Run(NamedTuple):
    """A cell.

    Attributes:
        expected: its cost by count, by which it is ordered.
        duration: how long it takes.
    """

    expected: float
    duration: float


Key = list[list[Run]]
"""The rounds of a tuning key."""


def cost(dim: int) -> float:
    """Flops of a run with `N = 64 d` relative to one of the largest `d`: `N^2 d`."""
    return (dim / max(DIMS)) ** 3


def tuned_study(generator: random.Random, spread: float = SPREAD) -> list[Key]:
    """The keys of a study that tunes 24 candidates: 12, then three rounds of four."""

    def run(dim: int) -> Run:
        return Run(cost(dim), cost(dim) * math.exp(spread * generator.gauss(0, 1)))

    sizes = [FIRST, *[PER_ROUND] * ROUNDS]
    keys = itertools.product(range(OPTIMIZERS * ALPHAS), DIMS)
    return [[[run(dim) for _ in range(size * SEEDS)] for size in sizes] for _, dim in keys]


def one_step_study() -> list[Key]:
    """The memories of a study without tuning; their optimizers go together."""
    dims = ONE_STEP_DIMS * ALPHAS * ONE_STEP_SEEDS
    return [[[Run(cost(dim), cost(dim))]] for dim in dims]


def with_barrier(keys: Sequence[Key]) -> list[Key]:
    """The same runs as one key: no round begins before all keys have ended the one before."""
    rounds = itertools.zip_longest(*keys, fillvalue=())
    return [[list(itertools.chain.from_iterable(runs)) for runs in rounds]]


def efficiency(keys: Sequence[Key], workers: int) -> float:
    """Share of the workers' time in which they measure, until the last run has ended."""
    unfinished = [[len(runs) for runs in key] for key in keys]
    waiting: deque[tuple[Run, int, int]] = deque()
    running: list[tuple[float, int, int]] = []
    now = busy = 0.0

    def submit(rounds: Sequence[tuple[int, int]]) -> None:
        runs = [(run, key, round_) for key, round_ in rounds for run in keys[key][round_]]
        waiting.extend(sorted(runs, key=lambda each: each[0].expected, reverse=True))

    submit([(key, 0) for key in range(len(keys))])
    while waiting or running:
        while waiting and len(running) < workers:
            run, key, round_ = waiting.popleft()
            busy += run.duration
            heapq.heappush(running, (now + run.duration, key, round_))
        now, key, round_ = heapq.heappop(running)
        unfinished[key][round_] -= 1
        if not unfinished[key][round_] and round_ + 1 < len(keys[key]):
            submit([(key, round_ + 1)])
    return busy / (workers * now)


def efficiencies(workers: int) -> dict[str, float]:
    """Of a sweep of one step, and of a tuned one both ways, by name."""
    return {
        "one step, no tuning": efficiency(one_step_study(), workers),
        **tuned_efficiencies(workers),
    }


def tuned_efficiencies(workers: int, spread: float = SPREAD) -> dict[str, float]:
    """Of a tuned sweep both ways, by name."""
    studies = [tuned_study(random.Random(draw), spread) for draw in range(DRAWS)]
    return {
        "tuning, key by key": fmean(efficiency(keys, workers) for keys in studies),
        "tuning, all keys by rounds": fmean(
            efficiency(with_barrier(keys), workers) for keys in studies
        ),
    }
