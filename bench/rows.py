"""From a case to the rows of its table: checked first, then timed, interleaved."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from typing import Any

import torch

from bench.measure import Ceilings, Clock, Sample, ceilings, clock, extra_bytes, interleaved
from bench.measure.ratio import Ratio, paired_ratio
from bench.measure.rounds import Samples
from bench.registry import Case, Format, Run, Unsupported, Way, relative_error

OURS = "ours"
AGAIN = "ours again"


@dataclass(frozen=True)
class Row:
    """One way of one case, with its raw samples.

    Attributes:
        case: its name.
        way: its name.
        status: "ok", "bound", "wrong result", "failed" or "skipped"; only the first two have times.
        note: why there is no number.
        error: relative error against float64; None where it is not compared.
        first: seconds of the first call, compilation included.
        hot: device seconds of a call, a sample a round.
        cold: the same with overwritten caches.
        launch: seconds to enqueue a call on a GPU.
        extra_bytes: peak memory beyond the inputs.
        ratio: its time over ours, median of the rounds, with interval; above one, ours is faster.
        differs: whether that ratio is beyond what two runs of ours show.
        flops, bytes: a second.
        of_gemm, of_copy: these as shares of the measured ceilings.
    """

    case: str
    way: str
    status: str
    note: str = ""
    error: float | None = None
    first: float | None = None
    hot: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    launch: float | None = None
    extra_bytes: int | None = None
    ratio: Ratio | None = None
    differs: bool = False
    flops: float | None = None
    bytes: float | None = None
    of_gemm: float | None = None
    of_copy: float | None = None

    @property
    def median(self) -> float:
        """Median of the hot samples."""
        return statistics.median(self.hot)

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return asdict(self)


@dataclass(frozen=True)
class Checked:
    """A way whose first call is done and judged."""

    row: Row
    run: Run | None


def measure(case: Case, seconds: float, limits: Ceilings | None = None) -> list[Row]:
    """The rows of a case, ours first.

    Args:
        case: what to measure.
        seconds: of sampling for each way.
        limits: the ceilings of the case's format and device; None measures them.
    """
    timer = clock(case.device)
    limits = limits or ceilings(timer, case.format.dtype, case.device)
    inputs = case.inputs()
    truth = case.function.reference(inputs)
    checked = {way.name: check(case, way, inputs, truth, timer) for way in case.function.ways}
    runs = {name: found.run for name, found in checked.items() if found.run is not None}
    if OURS in runs:
        runs[AGAIN] = runs[OURS]
    samples = interleaved(runs, timer, seconds) if runs else {}
    calibration = _ratio(samples, AGAIN)
    rows = []
    for name, found in checked.items():
        if found.run is None:
            rows.append(found.row)
            continue
        hot = _device(samples[name].hot)
        taken = statistics.median(hot)
        launches = [s.launch for s in samples[name].hot if s.launch is not None]
        ratio = calibration if name == OURS else _ratio(samples, name)
        rows.append(
            replace(
                found.row,
                hot=hot,
                cold=_device(samples[name].cold),
                launch=statistics.median(launches) if launches else None,
                extra_bytes=extra_bytes(found.run, case.device),
                ratio=ratio,
                differs=ratio is not None
                and calibration is not None
                and ratio.differs(calibration),
                flops=case.flops / taken,
                bytes=case.bytes / taken,
                of_gemm=case.flops / taken / limits.flops,
                of_copy=case.bytes / taken / limits.bytes,
            )
        )
    return rows


def check(case: Case, way: Way, inputs: Any, truth: Any, timer: Clock) -> Checked:
    """Prepare a way, call it once, and hold the result against the truth."""

    def none(status: str, note: str, error: float | None = None) -> Checked:
        return Checked(Row(case.name, way.name, status, note, error), None)

    try:
        run = _in_format(way.prepare(inputs), way, case.format)
        result, first = timer.first(run)
    except Unsupported as reason:
        return none("skipped", str(reason))
    except Exception as raised:
        return none("failed", f"{type(raised).__name__}: {raised}".splitlines()[0])
    if way.bound:
        return Checked(Row(case.name, way.name, "bound", first=first), run)
    error = relative_error(result, truth)
    if not error <= case.format.tolerance:
        note = f"relative error {error:.1e}, tolerance {case.format.tolerance:.0e}"
        return none("wrong result", note, error)
    return Checked(Row(case.name, way.name, "ok", error=error, first=first), run)


def _ratio(samples: dict[str, Samples], name: str) -> Ratio | None:
    if OURS not in samples:
        return None
    return paired_ratio(*(_device(samples[way].hot) for way in (name, OURS)))


def _device(samples: list[Sample]) -> list[float]:
    return [sample.device for sample in samples]


def _in_format(run: Run, way: Way, form: Format) -> Run:
    """Let torch multiply float32 in tf32 where that is the format; ours is asked by argument."""
    if form.name != "tf32" or way.name.startswith(OURS):
        return run

    @wraps(run)
    def in_tf32() -> Any:
        with _tf32():
            return run()

    return in_tf32


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
