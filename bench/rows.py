"""From a case to the rows of its table: checked first, then timed, interleaved."""

import statistics
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from typing import Any

from bench.measure import Ceilings, Clock, ceilings, clock, extra_bytes, interleaved, tf32
from bench.measure.ratio import Ratio, paired_ratio
from bench.measure.rounds import Samples
from bench.registry import Case, Format, Result, Run, Unsupported, Way, relative_error

OURS = "ours"
AGAIN = "ours again"
TIMED = "ok", "bound"


@dataclass(frozen=True)
class Row:
    """One way of one case, with its raw samples.

    Attributes:
        case: its name.
        way: its name.
        status: "ok", "bound", "wrong result", "failed" or "skipped"; only the first two have times.
        note: why there is no number, or what else is in it.
        error: relative error against float64, the larger of the first and the last call's; None
            where it is not compared.
        first: seconds of the first call, compilation included.
        hot: device seconds of a call, a sample a round.
        cold: the same with overwritten caches.
        launch: seconds to enqueue a call on a GPU.
        extra_bytes: peak memory beyond the inputs.
        ratio: its time over ours, median of the rounds, with interval; above one, ours is faster.
        differs: whether that ratio is beyond what two runs of ours show in the same rounds.
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


class Guarded:
    """A run that is not called again once it has failed, so that the others can go on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.failure: Exception | None = None

    def __call__(self) -> None:
        if self.failure is None:
            try:
                self.run()
            except Exception as raised:
                self.failure = raised


def measure(case: Case, seconds: float, limits: Ceilings | None = None) -> list[Row]:
    """The rows of a case, ours first; whatever fails is a row that says so.

    Args:
        case: what to measure.
        seconds: of sampling for each way.
        limits: the ceilings of the case's format and device; None measures them.
    """
    timer = clock(case.device)
    ways = case.function.ways
    works = {way.name: way.work or case.function for way in ways}
    try:
        limits = limits or ceilings(timer, case.format, case.device)
        inputs = case.inputs()
        truth = case.function.reference(inputs)
        flops = {work: work.flops(inputs) for work in set(works.values())}
    except Exception as raised:
        return [_failed(case, way, raised) for way in ways]
    checked = [check(case, way, inputs, truth, timer) for way in ways]
    runs = {found.row.way: Guarded(found.run) for found in checked if found.run is not None}
    again = {AGAIN: runs[OURS]} if OURS in runs else {}
    samples = interleaved(runs | again, timer, seconds)
    rows = []
    for way, found in zip(ways, checked, strict=True):
        row = found.row
        if way.name in runs:
            row = _settled(case, way, row, runs[way.name], truth)
        if row.status in TIMED:
            work = works[way.name]
            moved = work.bytes(case.size, case.format.dtype.itemsize)
            row = _timed(row, samples[way.name], flops[work], moved, limits)
        rows.append(row)
    return compared(rows, samples)


def check(case: Case, way: Way, inputs: Any, truth: Any, timer: Clock) -> Checked:
    """Prepare a way, call it once, and hold the result against the truth."""
    try:
        run = _in_format(way.prepare(inputs), way, case.format)
        result, first = timer.first(run)
        row = _judged(case, way, result, truth)
    except Unsupported as reason:
        return Checked(Row(case.name, way.name, "skipped", str(reason)), None)
    except Exception as raised:
        return Checked(_failed(case, way, raised), None)
    return Checked(replace(row, first=first), run) if row.status in TIMED else Checked(row, None)


def _settled(case: Case, way: Way, row: Row, guarded: Guarded, truth: Result) -> Row:
    """The row after sampling: a way that has failed since, or is wrong by now, loses its number."""
    try:
        if guarded.failure is not None:
            raise guarded.failure
        extra = extra_bytes(guarded.run, case.device)
        last = _judged(case, way, guarded.run(), truth)
    except Exception as raised:
        return _failed(case, way, raised)
    if last.status not in TIMED:
        return replace(last, note=f"{last.note}, after it was right at first")
    error = None if row.error is None or last.error is None else max(row.error, last.error)
    return replace(row, error=error, extra_bytes=extra)


def _judged(case: Case, way: Way, result: Result, truth: Result) -> Row:
    if way.bound:
        return Row(case.name, way.name, "bound")
    error, tolerance = relative_error(result, truth), case.format.tolerance
    if error <= tolerance:
        return Row(case.name, way.name, "ok", error=error)
    note = f"relative error {error:.1e}, tolerance {tolerance:.0e}"
    return Row(case.name, way.name, "wrong result", note, error)


def _failed(case: Case, way: Way, raised: Exception) -> Row:
    said = f"{type(raised).__name__}: {raised}".splitlines()[0]
    return Row(case.name, way.name, "failed", said)


def _timed(row: Row, samples: Samples, flops: float, moved: float, limits: Ceilings) -> Row:
    """The row with its times and what follows from them."""
    hot = [sample.device for sample in samples.hot]
    taken = statistics.median(hot)
    launches = [sample.launch for sample in samples.hot if sample.launch is not None]
    exposed = 2 * sum(sample.exposed for sample in samples.hot) > len(samples.hot)
    return replace(
        row,
        note="launches are in its time" if exposed else "",
        hot=hot,
        cold=[sample.device for sample in samples.cold],
        launch=statistics.median(launches) if launches else None,
        flops=flops / taken,
        bytes=moved / taken,
        of_gemm=flops / taken / limits.flops,
        of_copy=moved / taken / limits.bytes,
    )


def compared(rows: list[Row], samples: dict[str, Samples]) -> list[Row]:
    """The rows with their ratios; the A/A run is cut to the rounds of the ratio it calibrates."""
    ours = next((row.hot for row in rows if row.way == OURS and row.hot), None)
    if ours is None:
        return rows
    again = [sample.device for sample in samples[AGAIN].hot]

    def with_ratio(row: Row) -> Row:
        noise = paired_ratio(again[: len(row.hot)], ours)
        ratio = noise if row.way == OURS else paired_ratio(row.hot, ours)
        return replace(row, ratio=ratio, differs=ratio.differs(noise))

    return [with_ratio(row) if row.hot else row for row in rows]


def _in_format(run: Run, way: Way, form: Format) -> Run:
    """Let torch multiply float32 in tf32 where that is the format; ours is asked by argument."""
    if form.name != "tf32" or way.name.startswith(OURS):
        return run

    @wraps(run)
    def in_tf32() -> Any:
        with tf32():
            return run()

    return in_tf32
