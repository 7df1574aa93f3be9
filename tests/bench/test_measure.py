"""The measuring core, on clocks that are told what to say."""

import itertools
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from bench.measure import Sample, extra_bytes, interleaved, paired_ratio
from bench.measure.rounds import COLD_ROUNDS, LEAST_ROUNDS, MOST_CALLS, MOST_ROUNDS


class ToldClock:
    """Says of each run what it is told, and notes the order."""

    def __init__(self, seconds: dict[Any, float]) -> None:
        self.seconds = seconds
        self.order: list[Any] = []
        self.calls: list[int] = []
        self.cooled: list[Any] = []

    def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
        raise AssertionError("the first call is not sampled")

    def hot(self, run: Callable[[], Any], calls: int) -> Sample:
        self.order.append(run())
        self.calls.append(calls)
        return Sample(self.seconds[run()], None)

    def cold(self, run: Callable[[], Any]) -> Sample:
        self.cooled.append(run())
        return Sample(self.seconds[run()], None)


def runs(*names: str) -> dict[str, Callable[[], str]]:
    return {name: partial(str, name) for name in names}


def test_rounds_interleave_and_turn() -> None:
    clock = ToldClock({"a": 0.1, "b": 0.1, "c": 0.1})
    samples = interleaved(runs("a", "b", "c"), clock, 0.35)
    rounds = [clock.order[start : start + 3] for start in range(0, len(clock.order), 3)]
    assert rounds == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert {len(found.hot) for found in samples.values()} == {4}


def test_a_slow_way_takes_the_least_rounds_and_no_cold_ones() -> None:
    clock = ToldClock({"slow": 5.0, "quick": 0.1})
    samples = interleaved(runs("slow", "quick"), clock, 1.0)
    assert len(samples["slow"].hot) == LEAST_ROUNDS
    assert not samples["slow"].cold
    assert LEAST_ROUNDS < len(samples["quick"].hot) < MOST_ROUNDS
    assert len(samples["quick"].cold) == COLD_ROUNDS


def test_short_calls_are_repeated_within_a_sample() -> None:
    for seconds, calls in ((1e-3, 5), (1e-5, MOST_CALLS)):
        clock = ToldClock({"short": seconds})
        samples = interleaved(runs("short"), clock, 1.0)
        assert clock.calls[0] == 1
        assert set(clock.calls[1:]) == {calls}
        assert len(samples["short"].hot) == MOST_ROUNDS


def test_what_slows_the_machine_for_a_while_cancels_in_the_ratio() -> None:
    generator = np.random.default_rng(1)
    drift = np.exp(np.cumsum(generator.normal(0, 0.3, 40)))
    ratio = paired_ratio((2.0 * drift).tolist(), drift.tolist())
    assert tuple(ratio) == pytest.approx((2, 2, 2))


def test_the_interval_covers_the_median_of_noisy_ratios() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        ours, theirs = np.exp(generator.normal(0, 0.1, (2, 25)))
        ratio = paired_ratio((1.5 * theirs).tolist(), ours.tolist())
        covered += ratio.low <= 1.5 <= ratio.high
    assert 180 <= covered < 200


def test_a_difference_is_one_only_beyond_the_a_a_run() -> None:
    pairs = itertools.product((0.9, 1.0, 1.1), repeat=2)
    quiet = paired_ratio([1.0] * 9, [1.0] * 9)
    noisy = paired_ratio([theirs for theirs, _ in pairs], [1.0] * 9)
    small = paired_ratio([1.05] * 9, [1.0] * 9)
    assert small.differs(quiet)
    assert not small.differs(noisy)
    assert paired_ratio([0.5] * 9, [1.0] * 9).differs(noisy)
    assert not quiet.differs(quiet)


def test_where_one_way_has_fewer_rounds_the_first_count() -> None:
    assert paired_ratio([2.0, 2.0], [1.0, 1.0, math.nan]).value == pytest.approx(2)


def test_extra_bytes_are_the_peak_beyond_the_inputs(capfd: pytest.CaptureFixture[str]) -> None:
    kept = torch.zeros(1 << 20)

    def run() -> torch.Tensor:
        large = kept + 1  # 4 MiB
        return (large + 1).sum()  # 4 MiB more

    assert 2 * 4 << 20 <= extra_bytes(run, "cpu") < 3 * 4 << 20
    print("stderr still works", file=sys.stderr)
    assert "stderr still works" in capfd.readouterr().err
