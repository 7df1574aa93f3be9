"""Rows as text: the terminal's table."""

from collections.abc import Iterable

from bench.rows import Row

HEADER = (
    f"{'':<34}{'ms':>9}{'cold':>9}{'TF/s':>10}{'GEMM':>6}{'GB/s':>9}{'copy':>6}{'over ours':>11}"
    f" {'[95%]':<16}{'extra MB':>9}{'launch us':>10}{'first s':>9}{'error':>7}"
)
LEGEND = (
    "ms, cold: device time of a call, with warm and with overwritten caches. GEMM, copy: share of\n"
    "the ceilings measured in this run (of tf32x3: a third of tf32's). over ours: its time over\n"
    "ours, median of paired rounds (in the row of ours: an A/A run; ~ within what the A/A run\n"
    "shows). launch: to enqueue a call on a GPU. first: the first call, compilation included.\n"
    "error: against float64. Lines with a < do a part of the work only and bound what is possible."
)


def lines(rows: Iterable[Row]) -> list[str]:
    """The table of one case, under its name."""
    rows = list(rows)
    return [rows[0].case, *(_line(row) for row in rows)]


def _line(row: Row) -> str:
    name = f"  {'< ' if row.status == 'bound' else ''}{row.way}"
    if not row.hot:
        return f"{name:<34}{row.status}: {row.note}"
    ratio = interval = "-"
    if row.ratio is not None:
        ratio = f"{'' if row.differs else '~'}{row.ratio.value:.2f}"
        interval = f"[{row.ratio.low:.2f} {row.ratio.high:.2f}]"
    return (
        f"{name:<34}{_scaled(row.median, 1e-3):>9}{_scaled(_middle(row.cold), 1e-3):>9}"
        f"{_scaled(row.flops, 1e12):>10}{_percent(row.of_gemm):>6}"
        f"{_scaled(row.bytes, 1e9):>9}{_percent(row.of_copy):>6}"
        f"{ratio:>11} {interval:<16}{_scaled(row.extra_bytes, 1e6):>9}"
        f"{_scaled(row.launch, 1e-6):>10}{_scaled(row.first, 1):>9}"
        f"{'-' if row.error is None else f'{row.error:.0e}':>7}  {row.note}".rstrip()
    )


def _middle(samples: list[float]) -> float | None:
    return sorted(samples)[len(samples) // 2] if samples else None


def _scaled(value: float | None, unit: float) -> str:
    if value is None:
        return "-"
    scaled = value / unit
    return f"{scaled:.0f}" if scaled >= 100 else f"{scaled:#.3g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"
