"""Seconds of a call: device time by events behind a backlog on a GPU, wall time on a CPU."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

FLUSH_BYTES = 1 << 26  # more than the last cache of a CPU core group, or the L2 of a GPU
FLUSH_BYTES_CUDA = 1 << 28
CYCLES_A_SECOND = 2e9  # an upper bound is not needed: a backlog that ends early only shows launches


class Sample(NamedTuple):
    """Seconds of one call.

    Attributes:
        device: until the result is there, launches hidden on a GPU.
        launch: to enqueue it on a GPU; None on a CPU, where a call is done when it returns.
    """

    device: float
    launch: float | None


class Clock(Protocol):
    """How a device is timed."""

    def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
        """The result of the first call, and its seconds: compilation, tuning, first touch."""

    def hot(self, run: Callable[[], Any], calls: int) -> Sample:
        """The mean of several calls back to back."""

    def cold(self, run: Callable[[], Any]) -> Sample:
        """One call after the caches were overwritten."""


class CpuClock:
    """Wall time."""

    def __init__(self) -> None:
        self._flushed = torch.zeros(FLUSH_BYTES // 4)

    def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
        start = time.perf_counter()
        result = run()
        return result, time.perf_counter() - start

    def hot(self, run: Callable[[], Any], calls: int) -> Sample:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return Sample((time.perf_counter() - start) / calls, None)

    def cold(self, run: Callable[[], Any]) -> Sample:
        self._flushed.add_(1)
        return self.hot(run, 1)


class CudaClock:
    """Events, recorded behind a sleeping kernel that lasts until the calls are all enqueued."""

    def __init__(self) -> None:
        self._flushed = torch.zeros(FLUSH_BYTES_CUDA // 4, device="cuda")

    def first(self, run: Callable[[], Any]) -> tuple[Any, float]:
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = run()
        torch.cuda.synchronize()
        return result, time.perf_counter() - start

    def hot(self, run: Callable[[], Any], calls: int) -> Sample:
        return self._behind_backlog(run, calls)

    def cold(self, run: Callable[[], Any]) -> Sample:
        torch.cuda.synchronize()
        self._flushed.add_(1)
        return self._behind_backlog(run, 1)

    def _behind_backlog(self, run: Callable[[], Any], calls: int) -> Sample:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(CYCLES_A_SECOND * min(0.1, 1e-3 + 2e-4 * calls)))
        start.record()
        enqueued = time.perf_counter()
        for _ in range(calls):
            run()
        launch = (time.perf_counter() - enqueued) / calls
        end.record()
        torch.cuda.synchronize()
        return Sample(start.elapsed_time(end) / 1e3 / calls, launch)


def clock(device: str) -> Clock:
    """The clock of a kind of device, "cpu" or "cuda"."""
    return CudaClock() if device == "cuda" else CpuClock()
