"""Seconds and peak memory of a call, and the ceilings of a device.

Device time is measured by events behind a backlog on a GPU, and is wall time on a CPU.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bench.registry import Format

FLUSH_BYTES = 1 << 26  # more than the last cache of a CPU core group, or the L2 of a GPU
FLUSH_BYTES_CUDA = 1 << 28
CYCLES_A_SECOND = 2e9  # of a sleeping GPU, about: the margins make up for the rest
PROBE_SECONDS = 20e-3  # of sleep, to see how long a call takes to enqueue
ENQUEUED_SECONDS = 2.5e-3  # of a sample at most: a thousand launches, which a GPU's queue holds
MARGINS = 1.5, 6.0  # of sleep over enqueuing; the second where the host was held up
CEILING_CALLS = 5


class Sample(NamedTuple):
    """Seconds of one call."""

    device: float  # until the result is there
    launch: float | None  # to enqueue it on a GPU; None on a CPU
    exposed: bool = False  # the GPU waited for launches, so they are in `device`


class Clock:
    """Wall time of a CPU."""

    def __init__(self) -> None:
        self._flushed = torch.zeros(FLUSH_BYTES // 4)

    def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
        """The result of the first call, and its seconds: compilation, tuning, first touch."""
        start = time.perf_counter()
        result = run()
        return result, time.perf_counter() - start

    def hot(self, run: Callable[[], Any], calls: int) -> Sample:
        """The mean of so many calls back to back, or of as many as a GPU's queue holds."""
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return Sample((time.perf_counter() - start) / calls, None)

    def cold(self, run: Callable[[], Any]) -> Sample:
        """One call after the caches were overwritten."""
        self._flushed.add_(1)
        return self.hot(run, 1)


class CudaClock(Clock):
    """Events, recorded behind a sleeping kernel that lasts until the calls are all enqueued."""

    def __init__(self) -> None:
        self._flushed = torch.zeros(FLUSH_BYTES_CUDA // 4, device="cuda")
        self._probed: WeakKeyDictionary[Callable[[], Any], float | None] = WeakKeyDictionary()

    def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = run()
        torch.cuda.synchronize()
        return result, time.perf_counter() - start

    def hot(self, run: Callable[[], Any], calls: int) -> Sample:
        return self._sample(run, calls, self._enqueuing(run))

    def cold(self, run: Callable[[], Any]) -> Sample:
        enqueuing = self._enqueuing(run)
        self._flushed.add_(1)
        return self._sample(run, 1, enqueuing)

    def _enqueuing(self, run: Callable[[], Any]) -> float | None:
        """Seconds to enqueue a call, from its second probe; the first one warms up.

        None where no sleep can hide that: it waits for the GPU, or overfills its queue.
        """
        if run not in self._probed:
            self._behind_sleep(run, 1, PROBE_SECONDS)
            probe = self._behind_sleep(run, 1, PROBE_SECONDS)
            self._probed[run] = None if probe.exposed else probe.launch
        return self._probed[run]

    def _sample(self, run: Callable[[], Any], calls: int, enqueuing: float | None) -> Sample:
        if enqueuing is None:
            return self._behind_sleep(run, calls, 0.0)
        calls = max(1, min(calls, int(ENQUEUED_SECONDS / enqueuing)))
        for margin in MARGINS:
            sample = self._behind_sleep(run, calls, margin * calls * enqueuing + 1e-3)
            if not sample.exposed:
                break
        return sample

    def _behind_sleep(self, run: Callable[[], Any], calls: int, asleep: float) -> Sample:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(CYCLES_A_SECOND * asleep))
        start.record()
        began = time.perf_counter()
        for _ in range(calls):
            run()
        launch = (time.perf_counter() - began) / calls
        exposed = start.query()  # the sleep ended before the last call was enqueued
        end.record()
        torch.cuda.synchronize()
        return Sample(start.elapsed_time(end) / 1e3 / calls, launch, exposed)


@cache
def clock(device: str) -> Clock:
    """The clock of a kind of device, "cpu" or "cuda"."""
    return CudaClock() if device == "cuda" else Clock()


def extra_bytes(run: Callable[[], Any], device: str) -> int:
    """Peak of torch's allocations during a call, beyond those before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # without acc_events some versions warn that they lose earlier cycles, of which there are none
    with _silent_stderr(), torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        run()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Some builds of torch's profiler announce themselves there, whatever the log level."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


class Ceilings(NamedTuple):
    """The best that torch reaches on a device, per second."""

    flops: float  # of a square matrix product
    bytes: float  # of a copy, read and written


def measure_ceilings(clock: Clock, fmt: Format, device: str) -> Ceilings:
    """Measure both for a format; of tf32x3, which torch lacks, a third of the products in tf32."""
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device).to(fmt.dtype) for _ in range(2))
    out = torch.empty_like(left)
    with matmul_precision("high" if fmt.name in ("tf32", "tf32x3") else "highest"):
        product = _fastest(clock, lambda: torch.mm(left, right, out=out))
    products = 3 if fmt.name == "tf32x3" else 1
    source = torch.zeros((1 << 30 if device == "cuda" else 1 << 27) // 4, device=device)
    target = torch.empty_like(source)
    copy = _fastest(clock, lambda: target.copy_(source))
    return Ceilings(2 * size**3 / (products * product), 2 * source.numel() * 4 / copy)


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set the precision of torch's float32 products in the block: "high" is tf32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _fastest(clock: Clock, run: Callable[[], Tensor]) -> float:
    clock.first(run)
    return min(clock.hot(run, 3).device for _ in range(CEILING_CALLS))
