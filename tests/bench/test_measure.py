"""The measuring core, on clocks that are told what to say."""

import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.measure import Clock, Sample, ceilings, extra_bytes, paired_ratio, sampled
from bench.measure.clock import CYCLES_A_SECOND, CudaClock
from bench.measure.ratio import LEAST_PAIRS, LEVEL
from bench.measure.rounds import COLD_ROUNDS, LEAST_ROUNDS, MOST_CALLS, MOST_ROUNDS
from bench.registry import FORMATS


class ToldClock(Clock):
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


def test_rounds_interleave_in_an_order_of_their_own() -> None:
    orders = []
    for _ in range(2):
        clock = ToldClock({"a": 0.1, "b": 0.1, "c": 0.1})
        samples = sampled(runs("a", "b", "c"), clock, 0.75)
        assert {len(found.hot) for found in samples.values()} == {8}
        orders.append(clock.order)
    rounds = [orders[0][start : start + 3] for start in range(0, len(orders[0]), 3)]
    assert all(sorted(one) == list("abc") for one in rounds)
    followers = Counter(one[one.index("a") + 1] for one in rounds if one[-1] != "a")
    assert set(followers) == {"b", "c"}  # neighbours change
    assert orders[0] == orders[1]


def test_the_first_call_of_each_only_tells_how_many_make_a_sample() -> None:
    class Unwarmed(ToldClock):
        def hot(self, run: Callable[[], Any], calls: int) -> Sample:
            slow = run() not in self.order
            sample = super().hot(run, calls)
            return Sample(sample.device * (9 if slow else 1), None)

    clock = Unwarmed({"a": 1e-4, "b": 0.1})
    samples = sampled(runs("a", "b"), clock, 0.35)
    assert {sample.device for sample in samples["a"].hot} == {1e-4}
    assert {sample.device for sample in samples["b"].hot} == {0.1}
    assert clock.calls[:2] == [1, 1]


def test_a_slow_way_takes_the_least_rounds_and_no_cold_ones() -> None:
    clock = ToldClock({"slow": 5.0, "quick": 0.05})
    samples = sampled(runs("slow", "quick"), clock, 1.0)
    assert len(samples["slow"].hot) == LEAST_ROUNDS
    assert not samples["slow"].cold
    assert LEAST_ROUNDS < len(samples["quick"].hot) < MOST_ROUNDS
    assert len(samples["quick"].cold) == COLD_ROUNDS


def test_short_calls_are_repeated_within_a_sample() -> None:
    for seconds, calls in ((1e-3, 5), (1e-5, MOST_CALLS), (0.0, MOST_CALLS)):
        clock = ToldClock({"short": seconds})
        samples = sampled(runs("short"), clock, 1.0)
        assert clock.calls[0] == 1
        assert set(clock.calls[1:]) == {calls}
        assert len(samples["short"].hot) == MOST_ROUNDS


def test_what_slows_the_machine_for_a_while_cancels_in_the_ratio() -> None:
    generator = np.random.default_rng(1)
    drift = np.exp(np.cumsum(generator.normal(0, 0.3, 40)))
    ratio = paired_ratio((2.0 * drift).tolist(), drift.tolist())
    assert tuple(ratio) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("rounds", [LEAST_ROUNDS, 7, MOST_ROUNDS])
def test_the_interval_covers_the_median_as_often_as_it_says(rounds: int) -> None:
    generator = np.random.default_rng(rounds)
    covered = 0
    for _ in range(2000):
        ours, theirs = np.exp(generator.standard_t(2, (2, rounds)) / 10)
        ratio = paired_ratio((1.5 * theirs).tolist(), ours.tolist())
        covered += ratio.low <= 1.5 <= ratio.high
    assert 2000 * LEVEL - 20 <= covered < 2000 * 0.995


def test_too_few_rounds_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 paired samples are too few for an interval of 95%"):
        paired_ratio([1.0] * (LEAST_PAIRS - 1), [1.0] * 9)


def test_a_difference_is_one_only_beyond_the_a_a_run() -> None:
    quiet = paired_ratio([1.0] * 9, [1.0] * 9)
    noisy = paired_ratio([0.9, 1.0, 1.1] * 3, [1.0] * 9)
    small = paired_ratio([1.05] * 9, [1.0] * 9)
    assert small.differs(quiet)
    assert not small.differs(noisy)
    assert paired_ratio([0.5] * 9, [1.0] * 9).differs(noisy)
    assert not quiet.differs(quiet)


def test_where_one_way_has_fewer_rounds_the_first_count() -> None:
    ratio = paired_ratio([2.0] * LEAST_PAIRS, [1.0] * LEAST_PAIRS + [math.nan])
    assert tuple(ratio) == (2, 2, 2)


@dataclass
class Gpu:
    """Stands in for torch and time: a host and a device with clocks of their own, and a queue."""

    queue: int = 1024
    host: float = 1.0
    done: list[float] = field(default_factory=lambda: [0.0])  # when each piece of work is
    asleep: list[float] = field(default_factory=list)

    def enqueue(self, seconds: float, host: float = 0.0) -> float:
        """A launch; waits while the queue is full."""
        self.host += host
        if len(self.done) > self.queue:
            self.host = max(self.host, self.done[-self.queue])
        self.done.append(max(self.done[-1], self.host) + seconds)
        return self.done[-1]

    def synchronize(self) -> None:
        self.host = max(self.host, self.done[-1])

    def sleep(self, cycles: int) -> None:
        self.asleep.append(cycles / CYCLES_A_SECOND)
        self.enqueue(self.asleep[-1])

    def event(self, enable_timing: bool) -> SimpleNamespace:
        assert enable_timing
        event = SimpleNamespace(at=math.inf)
        event.record = lambda: setattr(event, "at", self.enqueue(0.0))
        event.query = lambda: self.host >= event.at
        event.elapsed_time = lambda end: 1e3 * (end.at - event.at)
        return event


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    cuda = SimpleNamespace(Event=gpu.event, _sleep=gpu.sleep, synchronize=gpu.synchronize)
    flushed = SimpleNamespace(add_=lambda one: gpu.enqueue(1e-3))
    torch_like = SimpleNamespace(cuda=cuda, zeros=lambda size, device: flushed)
    module = sys.modules[CudaClock.__module__]
    monkeypatch.setattr(module, "torch", torch_like)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: gpu.host))
    return gpu


def launching(gpu: Gpu, launches: int, host: float, device: float) -> Callable[[], None]:
    """A run of so many launches, each of so many seconds on the host and on the device."""

    def run() -> None:
        for _ in range(launches):
            gpu.enqueue(device, host)

    return run


@pytest.mark.parametrize(
    ("launches", "host", "device", "calls"),
    [
        (1, 5e-6, 1e-6, 20),  # shorter than its launch
        (500, 4e-6, 1e-6, 20),  # an optimizer: two milliseconds of launches, too many for 20 calls
        (900, 10e-6, 20e-6, 1),
    ],
)
def test_launches_are_hidden_on_a_gpu(
    gpu: Gpu, launches: int, host: float, device: float, calls: int
) -> None:
    clock, run = CudaClock(), launching(gpu, launches, host, device)
    for sample in (clock.hot(run, calls), clock.hot(run, calls), clock.cold(run)):
        assert not sample.exposed
        assert sample.device == pytest.approx(launches * device)
        assert sample.launch == pytest.approx(launches * host)


def test_a_call_that_fills_the_queue_or_waits_for_the_gpu_says_so(gpu: Gpu) -> None:
    def waiting() -> None:
        gpu.enqueue(1e-3, 1e-5)
        gpu.synchronize()

    clock = CudaClock()
    for run, seconds in ((launching(gpu, 2000, 5e-6, 1e-6), 1e-2), (waiting, 1.01e-3)):
        sample = clock.hot(run, 3)
        assert sample.exposed
        assert sample.device == pytest.approx(seconds, rel=0.01)
        assert gpu.asleep[-1] == 0  # a sleep would only cost time


def test_a_sample_that_the_host_was_late_for_is_taken_again(gpu: Gpu) -> None:
    late = [0.0, 0.0, 20e-3]  # two probes, then a sample

    def run() -> None:
        gpu.enqueue(1e-4, 1e-4 + (late.pop(0) if late else 0.0))

    sample = CudaClock().hot(run, 5)
    assert not sample.exposed
    assert sample.device == pytest.approx(1e-4)
    assert len(gpu.asleep) == 4
    assert gpu.asleep[-1] > gpu.asleep[-2]


def test_a_host_that_is_late_twice_is_not_hidden(gpu: Gpu) -> None:
    late = iter([0.0, 0.0])

    def run() -> None:
        gpu.enqueue(1e-4, next(late, 50e-3) + 1e-4)

    assert CudaClock().hot(run, 1).exposed


def test_ceilings_are_those_of_the_format() -> None:
    precisions = []

    class Noting(ToldClock):
        def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
            return None, 0.0

        def hot(self, run: Callable[[], Any], calls: int) -> Sample:
            precisions.append(torch.get_float32_matmul_precision())
            return Sample(1.0, None)

    found = {name: ceilings(Noting({}), FORMATS[name], "cpu") for name in FORMATS}
    products = {name: precisions[10 * place] for place, name in enumerate(FORMATS)}
    assert products["float32"] == products["bfloat16"] == "highest"
    assert products["tf32"] == products["tf32x3"] == "high"
    assert found["tf32x3"].flops == pytest.approx(found["tf32"].flops / 3)
    assert found["tf32x3"].bytes == found["float32"].bytes
    assert torch.get_float32_matmul_precision() == "highest"


def test_extra_bytes_are_the_peak_beyond_the_inputs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.profiler.profiler._WARNINGS_SHOWN", set(), raising=False)  # anew
    kept = torch.zeros(1 << 20)

    def run() -> torch.Tensor:
        large = kept + 1  # 4 MiB
        return (large + 1).sum()  # 4 MiB more

    assert 2 * 4 << 20 <= extra_bytes(run, "cpu") < 3 * 4 << 20
    print("stderr still works", file=sys.stderr)
    assert "stderr still works" in capfd.readouterr().err
