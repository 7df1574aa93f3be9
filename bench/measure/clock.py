"""Seconds of a call: device time by events behind a backlog on a GPU, wall time on a CPU."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

FLUSH_BYTES = 1 << 26  # more than the last cache of a CPU core group, or the L2 of a GPU
FLUSH_BYTES_CUDA = 1 << 28
CYCLES_A_SECOND = 2e9  # of a sleeping GPU, about: the margins make up for the rest
PROBE_SECONDS = 20e-3  # of sleep, to see how long a call takes to enqueue
ENQUEUED_SECONDS = 2.5e-3  # of a sample at most: a thousand launches, which a GPU's queue holds
MARGINS = 1.5, 6.0  # of sleep over enqueuing; the second where the host was held up


class Sample(NamedTuple):
    """Seconds of one call.

    Attributes:
        device: until the result is there.
        launch: to enqueue it on a GPU; None on a CPU, where a call is done when it returns.
        exposed: the GPU waited for launches, so they are in `device`.
    """

    device: float
    launch: float | None
    exposed: bool = False


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
        """Seconds to enqueue a call, known from its second probe; the first warms.

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


def clock(device: str) -> Clock:
    """The clock of a kind of device, "cpu" or "cuda"."""
    return CudaClock() if device == "cuda" else Clock()
