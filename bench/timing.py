"""From a case to its timings: checked, sampled in interleaved rounds, checked again, compared."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

from torch import Tensor

from bench.measure import Ceilings, Sample, clock, extra_bytes, matmul_precision
from bench.registry import OURS, Case, Implementation, Inputs, Result, Run, Unsupported
from bench.sampling import Ratio, paired_ratio, sample

AGAIN = "ours again"


@dataclass
class Timing:
    """One implementation of one case, with its raw samples: all times in seconds."""

    case: str
    implementation: str
    status: str  # "ok", "bound", "wrong result", "failed" or "skipped"; the first two have times
    note: str = ""  # why there is no number, or what else is in it
    error: float | None = None  # against float64, the larger of the first and the last call's
    first: float | None = None  # call, with compilation unless `bench.__main__.warm_up` did that
    hot: list[float] = field(default_factory=list)  # of the device, a sample a round
    cold: list[float] = field(default_factory=list)  # the same with overwritten caches
    launch: float | None = None  # to enqueue a call on a GPU
    extra_bytes: int | None = None  # peak memory beyond the inputs
    ratio: Ratio | None = None  # its time over ours; above one, ours is faster
    differs: bool = False  # whether that is beyond the reach of two runs of ours
    flops: float | None = None  # per second
    bytes: float | None = None
    of_gemm: float | None = None  # these as shares of the measured ceilings
    of_copy: float | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it may have a time."""
        return self.status in ("ok", "bound")

    @property
    def median(self) -> float:
        """Median of the hot samples."""
        return statistics.median(self.hot)

    def fail(self, error: Exception) -> None:
        """Set the status to an error, in a line."""
        self.status, self.note = "failed", f"{type(error).__name__}: {error}".splitlines()[0]


class Measurement:
    """One implementation on the inputs of a case: called and checked once, ready to be sampled."""

    run: Run

    def __init__(
        self, case: Case, implementation: Implementation, inputs: Inputs, exact: Result
    ) -> None:
        self.case, self.implementation = case, implementation
        self.clock = clock(case.device)
        self.timing = Timing(case.name, implementation.name, "failed")
        self._exact = exact
        self._failure: Exception | None = None
        try:
            self.run = self._prepare(inputs)
            result, self.timing.first = self.clock.first(self.run)
            self._check(result)
        except (Unsupported, ImportError) as reason:  # an older commit lacks a function
            self.timing.status, self.timing.note = "skipped", str(reason)
        except Exception as error:
            self.timing.fail(error)

    @classmethod
    def of(cls, case: Case, implementation: Implementation) -> "Measurement":
        """An implementation by itself, on inputs of its own."""
        inputs = case.make_inputs()
        return cls(case, implementation, inputs, case.function.reference(inputs))

    def hot(self, calls: int) -> Sample:
        """A sample of so many calls; infinite once one has failed, so that others can go on."""
        return self._sample(partial(self.clock.hot, self.run, calls))

    def cold(self) -> Sample:
        """A sample of a call with overwritten caches, likewise."""
        return self._sample(partial(self.clock.cold, self.run))

    def finish(self) -> None:
        """Check the result once more, and measure memory; what fails by now has no number."""
        timing = self.timing
        try:
            if self._failure is not None:
                raise self._failure
            timing.extra_bytes = extra_bytes(self.run, self.case.device)
            self._check(self.run())
        except Exception as error:
            timing.fail(error)
        if not timing.is_valid:
            timing.first = timing.extra_bytes = None
        if timing.status == "wrong result":
            timing.note += ", after it was right at first"

    def _prepare(self, inputs: Inputs) -> Run:
        """The call; torch multiplies float32 in tf32 where that is the format."""
        run = self.implementation.prepare(inputs)
        if self.case.format.name != "tf32" or self.implementation.name.startswith(OURS):
            return run  # ours takes the precision as an argument

        @wraps(run)
        def in_tf32() -> Any:
            with matmul_precision("high"):
                return run()

        return in_tf32

    def _check(self, result: Result) -> None:
        """Compare a result with the exact one, within the tolerance of the format."""
        timing, tolerance = self.timing, self.case.format.tolerance
        if self.implementation.bound:
            timing.status = "bound"
            return
        error = relative_error(result, self._exact)
        timing.error = max(error, timing.error or 0.0)
        timing.status = "ok"
        if error > tolerance:
            timing.status = "wrong result"
            timing.note = f"relative error {error:.1e}, tolerance {tolerance:.0e}"

    def _sample(self, take: Callable[[], Sample]) -> Sample:
        if self._failure is None:
            try:
                return take()
            except Exception as error:
                self._failure = error
        return Sample(math.inf, None)


def measure(case: Case, seconds: float, ceilings: Ceilings) -> list[Timing]:
    """The timings of a case, with so many seconds of sampling for each implementation, ours first.

    The ceilings are those of its format and device. What fails has a reason instead of a time.
    """
    function, implementations = case.function, case.function.implementations
    try:
        inputs = case.make_inputs()
        exact, flops = function.reference(inputs), function.flops(inputs)
    except Exception as error:
        failures = [Timing(case.name, each.name, "failed") for each in implementations]
        for timing in failures:
            timing.fail(error)
        return failures
    measurements = [Measurement(case, each, inputs, exact) for each in implementations]
    running = {each.timing.implementation: each for each in measurements if each.timing.is_valid}
    again = {AGAIN: running[OURS]} if OURS in running else {}
    hot, cold = sample(running | again, seconds)
    for name, measurement in running.items():
        measurement.finish()
        if measurement.timing.is_valid:
            moved = function.bytes(case.size, case.format.dtype.itemsize)
            _add_times(measurement.timing, hot[name], cold.get(name, []))
            _add_throughput(measurement.timing, flops, moved, ceilings)
    timings = [each.timing for each in measurements]
    if again:
        add_ratios(timings, [sample.device for sample in hot[AGAIN]])
    return timings


def _add_times(timing: Timing, hot: Sequence[Sample], cold: Sequence[Sample]) -> None:
    timing.hot = [sample.device for sample in hot]
    timing.cold = [sample.device for sample in cold]
    launches = [sample.launch for sample in hot if sample.launch is not None]
    timing.launch = statistics.median(launches) if launches else None
    if 2 * sum(sample.exposed for sample in hot) > len(hot):
        timing.note = "launches are in its time"


def _add_throughput(timing: Timing, flops: float, moved: float, ceilings: Ceilings) -> None:
    timing.flops, timing.bytes = flops / timing.median, moved / timing.median
    timing.of_gemm = timing.flops / ceilings.flops
    timing.of_copy = timing.bytes / ceilings.bytes


def add_ratios(timings: Sequence[Timing], again: Sequence[float]) -> None:
    """Add the ratios over ours; the A/A run is cut to the rounds of the ratio it calibrates."""
    ours = next((each.hot for each in timings if each.implementation == OURS), [])
    for timing in timings if ours else ():
        if timing.hot:
            noise = paired_ratio(again[: len(timing.hot)], ours)
            same = timing.implementation == OURS
            timing.ratio = noise if same else paired_ratio(timing.hot, ours)
            timing.differs = timing.ratio.differs(noise)


def relative_error(result: Result, exact: Result) -> float:
    """The largest over the tensors of `|result - exact| / |exact|`; infinite if shapes differ."""
    results, truths = _as_tuple(result), _as_tuple(exact)
    if [tensor.shape for tensor in results] != [tensor.shape for tensor in truths]:
        return math.inf
    errors = [
        float((ours.double() - truth.double()).norm() / truth.double().norm().clamp_min(1e-300))
        for ours, truth in zip(results, truths, strict=True)
    ]
    return max(math.inf if math.isnan(error) else error for error in errors)


def _as_tuple(result: Result) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
