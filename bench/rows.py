"""From a case to the rows of its table: checked first, then timed, interleaved."""

import statistics
from dataclasses import dataclass, field, replace

from bench.measure import Ceilings, Ratio, Samples, paired_ratio, sampled
from bench.registry import OURS, Case
from bench.trial import Guarded, Trial, failed

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
        first: seconds of the first call, compilation included but on a GPU (see `warm`).
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
        verdict, first, run = checked[way.name]
        extra = None
        if run is not None:
            verdict, extra = trial.settle(way, runs[way.name], verdict)
        row = Row(case.name, way.name, *verdict, extra_bytes=extra)
        if verdict.timed:
            moved = work.bytes(case.size, case.format.dtype.itemsize)
            row = _timed(replace(row, first=first), samples[way.name], flops[work], moved, limits)
        rows.append(row)
    return compared(rows, [sample.device for sample in samples[AGAIN].hot]) if again else rows


def _timed(row: Row, samples: Samples, flops: float, moved: float, limits: Ceilings) -> Row:
    """The row with its times, and what a second of it does."""
    hot = [sample.device for sample in samples.hot]
    median = statistics.median(hot)
    launches = [sample.launch for sample in samples.hot if sample.launch is not None]
    exposed = 2 * sum(sample.exposed for sample in samples.hot) > len(samples.hot)
    return replace(
        row,
        note="launches are in its time" if exposed else "",
        hot=hot,
        cold=[sample.device for sample in samples.cold],
        launch=statistics.median(launches) if launches else None,
        flops=flops / median,
        bytes=moved / median,
        of_gemm=flops / median / limits.flops,
        of_copy=moved / median / limits.bytes,
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
