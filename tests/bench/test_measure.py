"""Clocks, sampling and ratios, on simulated timers and a simulated GPU."""

import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench import measure
from bench.measure import CYCLES_A_SECOND, Clock, CudaClock, Sample, extra_bytes
from bench.registry import FORMATS
from bench.sampling import LEAST_ROUNDS, LEVEL, MOST_CALLS, MOST_ROUNDS, paired_ratio, sample


@dataclass
class FakeTimer:
    """Takes samples of fixed seconds, and logs their order."""

    name: str
    seconds: float
    order: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    def hot(self, calls: int) -> Sample:
        self.order.append(self.name)
        self.calls.append(calls)
        return Sample(self.seconds, None)

    def cold(self) -> Sample:
        return Sample(self.seconds, None)


def timers(**seconds: float) -> dict[str, FakeTimer]:
    """Timers with one log."""
    order: list[str] = []
    calls: list[int] = []
    return {name: FakeTimer(name, each, order, calls) for name, each in seconds.items()}


def test_rounds_interleave_in_a_random_but_fixed_order() -> None:
    orders = []
    for _ in range(2):
        three = timers(a=0.1, b=0.1, c=0.1)
        hot, _ = sample(three, 0.75)
        assert {len(samples) for samples in hot.values()} == {8}
        orders.append(three["a"].order)
    rounds = [orders[0][start : start + 3] for start in range(0, len(orders[0]), 3)]
    assert all(sorted(one) == list("abc") for one in rounds)
    followers = Counter(one[one.index("a") + 1] for one in rounds if one[-1] != "a")
    assert set(followers) == {"b", "c"}  # neighbours change
    assert orders[0] == orders[1]


def test_the_first_call_of_each_only_tells_how_many_make_a_sample() -> None:
    class Unwarmed(FakeTimer):
        def hot(self, calls: int) -> Sample:
            slow = not self.calls
            return super().hot(calls)._replace(device=self.seconds * (9 if slow else 1))

    cold = {name: Unwarmed(name, seconds) for name, seconds in (("a", 1e-4), ("b", 0.1))}
    hot, _ = sample(cold, 0.35)
    assert {each.device for each in hot["a"]} == {1e-4}
    assert {each.device for each in hot["b"]} == {0.1}
    assert [timer.calls[0] for timer in cold.values()] == [1, 1]


def test_a_slow_call_takes_the_least_rounds_and_no_cold_ones() -> None:
    hot, cold = sample(timers(slow=5.0, quick=0.05), 1.0)
    assert len(hot["slow"]) == LEAST_ROUNDS
    assert LEAST_ROUNDS < len(hot["quick"]) < MOST_ROUNDS
    assert {name: len(samples) for name, samples in cold.items()} == {"quick": 3}


@pytest.mark.parametrize(("seconds", "calls"), [(1e-3, 5), (1e-5, MOST_CALLS), (0.0, MOST_CALLS)])
def test_short_calls_are_repeated_within_a_sample(seconds: float, calls: int) -> None:
    short = timers(short=seconds)
    hot, _ = sample(short, 1.0)
    assert short["short"].calls[0] == 1
    assert set(short["short"].calls[1:]) == {calls}
    assert len(hot["short"]) == MOST_ROUNDS


def test_drift_of_the_machine_cancels_in_the_ratio() -> None:
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
        paired_ratio([1.0] * (LEAST_ROUNDS - 1), [1.0] * 9)


def test_a_difference_has_to_exceed_the_a_a_run() -> None:
    quiet = paired_ratio([1.0] * 9, [1.0] * 9)
    noisy = paired_ratio([0.9, 1.0, 1.1] * 3, [1.0] * 9)
    small = paired_ratio([1.05] * 9, [1.0] * 9)
    assert small.differs(quiet)
    assert not small.differs(noisy)
    assert paired_ratio([0.5] * 9, [1.0] * 9).differs(noisy)
    assert not quiet.differs(quiet)


def test_where_one_has_fewer_rounds_the_first_ones_count() -> None:
    ratio = paired_ratio([2.0] * LEAST_ROUNDS, [1.0] * LEAST_ROUNDS + [math.nan])
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
    monkeypatch.setattr(measure, "torch", torch_like)
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: gpu.host))
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
    for each in (clock.hot(run, calls), clock.hot(run, calls), clock.cold(run)):
        assert not each.exposed
        assert each.device == pytest.approx(launches * device)
        assert each.launch == pytest.approx(launches * host)


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

    class FakeClock(Clock):
        def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
            return None, 0.0

        def hot(self, run: Callable[[], Any], calls: int) -> Sample:
            precisions.append(torch.get_float32_matmul_precision())
            return Sample(1.0, None)

    best = {name: measure.measure_ceilings(FakeClock(), FORMATS[name], "cpu") for name in FORMATS}
    products = {name: precisions[10 * place] for place, name in enumerate(FORMATS)}
    assert products["float32"] == products["bfloat16"] == "highest"
    assert products["tf32"] == products["tf32x3"] == "high"
    assert best["tf32x3"].flops == pytest.approx(best["tf32"].flops / 3)
    assert best["tf32x3"].bytes == best["float32"].bytes
    assert torch.get_float32_matmul_precision() == "highest"


def test_extra_bytes_are_the_peak_beyond_the_inputs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.profiler.profiler._WARNINGS_SHOWN", set(), raising=False)  # anew
    inputs = torch.zeros(1 << 20)

    def run() -> torch.Tensor:
        large = inputs + 1  # 4 MiB
        return (large + 1).sum()  # 4 MiB more

    assert 2 * 4 << 20 <= extra_bytes(run, "cpu") < 3 * 4 << 20
    print("stderr still works", file=sys.stderr)
    assert "stderr still works" in capfd.readouterr().err
