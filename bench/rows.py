"""From a case to the rows of its table: checked first, then timed, interleaved."""

import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.measure import Ceilings, Ratio, Samples, extra_bytes, paired_ratio, sampled
from bench.registry import OURS, Case, Run, Way
from bench.trial import Trial, Verdict, failed

AGAIN = "ours again"


@dataclass(frozen=True)
class Row:
    """One way of one case, with its raw samples.

    Attributes:
        case: its name.
        way: its name.
        status, note: of its verdict.
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


def measure(case: Case, seconds: float, limits: Ceilings) -> list[Row]:
    """The rows of a case, ours first; whatever fails is a row that says so.

    Args:
        case: what to measure.
        seconds: of sampling for each way.
        limits: the ceilings of the case's format and device.
    """
    ways = case.function.ways
    works = [way.work or case.function for way in ways]
    try:
        trial = Trial(case)
        flops = {work: work.flops(trial.inputs) for work in set(works)}
    except Exception as raised:
        return [Row(case.name, way.name, *failed(raised)) for way in ways]
    checked = {way.name: trial.check(way) for way in ways}
    runs = {name: Guarded(found.run) for name, found in checked.items() if found.run is not None}
    again = {AGAIN: runs[OURS]} if OURS in runs else {}
    samples = sampled(runs | again, trial.clock, seconds)
    rows = []
    for way, work in zip(ways, works, strict=True):
        found = checked[way.name]
        row = Row(case.name, way.name, *found.verdict, first=found.first)
        if way.name in runs:
            row = _settled(row, trial, way, runs[way.name])
        if row.extra_bytes is not None:
            moved = work.bytes(case.size, case.format.dtype.itemsize)
            row = _shares(_timed(row, samples[way.name]), flops[work], moved, limits)
        rows.append(row)
    return compared(rows, [sample.device for sample in samples[AGAIN].hot]) if again else rows


def _settled(row: Row, trial: Trial, way: Way, guarded: Guarded) -> Row:
    """The row after sampling: a way that has failed since, or is wrong by now, has no number."""
    try:
        if guarded.failure is not None:
            raise guarded.failure
        extra = extra_bytes(guarded.run, trial.case.device)
        last = trial.judge(way, guarded.run())
    except Exception as raised:
        return Row(row.case, row.way, *failed(raised))
    if not last.timed:
        late = Verdict(last.status, f"{last.note}, after it was right at first", last.error)
        return Row(row.case, row.way, *late)
    error = None if row.error is None or last.error is None else max(row.error, last.error)
    return replace(row, error=error, extra_bytes=extra)


def _timed(row: Row, samples: Samples) -> Row:
    """The row with its times."""
    launches = [sample.launch for sample in samples.hot if sample.launch is not None]
    exposed = 2 * sum(sample.exposed for sample in samples.hot) > len(samples.hot)
    return replace(
        row,
        note="launches are in its time" if exposed else "",
        hot=[sample.device for sample in samples.hot],
        cold=[sample.device for sample in samples.cold],
        launch=statistics.median(launches) if launches else None,
    )


def _shares(row: Row, flops: float, moved: float, limits: Ceilings) -> Row:
    """The row with what a second of it does."""
    return replace(
        row,
        flops=flops / row.median,
        bytes=moved / row.median,
        of_gemm=flops / row.median / limits.flops,
        of_copy=moved / row.median / limits.bytes,
    )


def compared(rows: list[Row], again: list[float]) -> list[Row]:
    """The rows with their ratios; the A/A run is cut to the rounds of the ratio it calibrates."""
    ours = [row.hot for row in rows if row.way == OURS and row.hot]
    if not ours:
        return rows

    def with_ratio(row: Row) -> Row:
        noise = paired_ratio(again[: len(row.hot)], ours[0])
        ratio = noise if row.way == OURS else paired_ratio(row.hot, ours[0])
        return replace(row, ratio=ratio, differs=ratio.differs(noise))

    return [with_ratio(row) if row.hot else row for row in rows]
