"""What the command prints and writes: matrices, schedules, and the line for `Muon`."""

import csv
from collections.abc import Iterable, Sequence

from memsolve_kernels.matrix_sign import STOCK
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from memsolve.engine.results.tidy import FORMULA, UnixLines
from memsolve.report.escape import escape_unprintable
from memsolve.spectrum.choose import CertifiedSchedule
from memsolve.spectrum.schedules import (
    Target,
    default_schedule,
    default_share,
    flops,
    format_dtype,
    resolved_share,
)
from memsolve.spectrum.singular_values import Spectrum, pool_values

QUANTILES = 0.01, 0.1, 0.5
MOST_ROWS = 20
"""Rows of the terminal's table of matrices; the file has all."""

NARROW, MIN_NAME_WIDTH = 80, 16
"""Letters of a terminal that has no room for all columns, and of a name."""


def matrices_table(spectra: Sequence[Spectrum], width: int) -> Table:
    """The matrices whose 10% quantiles are smallest, and all together.

    Args:
        spectra: of the matrices.
        width: of the terminal; a narrow one gets fewer columns, and the file has all.
    """
    shown = sorted(spectra, key=lambda spectrum: spectrum.quantile(0.1))[:MOST_ROWS]
    hidden = len(spectra) - len(shown)
    caption = "singular values over the Frobenius norm of their matrix"
    if hidden:
        caption += f"; {hidden} matrices with larger 10% quantiles are not shown"
    everything = spectra[0]._replace(values=pool_values(spectra))
    noise = sum(each.noise for each in spectra) / sum(each.matrix.rank for each in spectra)
    columns = _columns(shown) | {"noise": [f"{_noise(each):.1%}" for each in shown]}
    last = {title: texts[0] for title, texts in _columns([everything]).items()}
    last |= {"shape": "", "noise": f"{noise:.1%}"}
    if width < NARROW:
        columns = {title: columns[title] for title in ("shape", "1%", "10%")}
    table = _table("matrix", columns, caption)
    for row, spectrum in enumerate(shown):
        name = Text(escape_unprintable(spectrum.matrix.name))
        table.add_row(name, *(texts[row] for texts in columns.values()))
    table.add_section()
    table.add_row("all", *(last[title] for title in columns))
    return table


def _columns(spectra: Sequence[Spectrum]) -> dict[str, list[str]]:
    """Shape, quantiles and the largest value of each matrix, as text, by title."""
    levels = {f"{level:.0%}": level for level in QUANTILES} | {"largest": 1.0}
    shapes = [f"{each.matrix.rows} x {each.matrix.columns}" for each in spectra]
    return {"shape": shapes} | {
        title: [f"{each.quantile(level):.2g}" for each in spectra]
        for title, level in levels.items()
    }


def _noise(spectrum: Spectrum) -> float:
    """The share of singular values that are rounding error."""
    return spectrum.noise / spectrum.matrix.rank


def _table(name: str, titles: Iterable[str], caption: str) -> Table:
    """An empty table with names on the left, and numbers."""
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    table.add_column(name, overflow="fold", min_width=MIN_NAME_WIDTH)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def schedules_table(
    spectra: Sequence[Spectrum], target: Target, choice: CertifiedSchedule | None
) -> Table:
    """What some schedules resolve in exact arithmetic: the default, stock ones, the chosen one."""
    values, sizes = pool_values(spectra), [spectrum.matrix.size for spectrum in spectra]
    unit = flops(STOCK["muon"], sizes)
    schedules = {
        "muon": STOCK["muon"],
        "polar-express, first 5": STOCK["polar-express"].take(5),
        "polar-express": STOCK["polar-express"],
    }
    if choice is not None:
        schedules[choice.option.code] = choice.option.schedule
    caption = (
        f"resolved: ends within {target.tolerance:g} of one, in exact arithmetic; flops: relative "
        "to five steps of muon, a step in a wider dtype counted twice"
    )
    table = _table("schedule", ("steps", "flops", "resolved"), caption)
    table.add_row(*_default_row(spectra, target, unit))
    for name, schedule in schedules.items():
        cost, share = flops(schedule, sizes), resolved_share(schedule, values, target.tolerance)
        table.add_row(Text(name), str(len(schedule)), f"{cost / unit:.2f}", f"{share:.2%}")
    return table


def _default_row(spectra: Sequence[Spectrum], target: Target, unit: float) -> list[str]:
    """The default of `matrix_sign`, which is another schedule for each dtype and rank."""
    defaults = [default_schedule(spectrum, target.dtype) for spectrum in spectra]
    lengths = sorted({len(schedule) for schedule in defaults})
    cost = sum(
        flops(schedule, [spectrum.matrix.size])
        for schedule, spectrum in zip(defaults, spectra, strict=True)
    )
    return [
        f"default in {format_dtype(target.dtype)}",
        str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}",
        f"{cost / unit:.2f}",
        f"{default_share(spectra, target):.2%}",
    ]


def certificate_lines(choice: CertifiedSchedule, target: Target, verified: str) -> list[str]:
    """What is certified of the chosen schedule, in sentences.

    Args:
        choice: the schedule.
        target: of the choice.
        verified: how many matrices were, as `all 3 matrices`.
    """
    schedule, worst, matrix = choice.option.schedule, choice.verification, choice.worst.matrix
    low, high = schedule.band()
    dtype = format_dtype(target.dtype)
    return [
        f"in exact arithmetic singular values from {schedule.lower:.2g} to 1 end in [{low:.3g}, "
        f"{high:.3g}], and {choice.share:.2%} of all are resolved",
        f"in {dtype}, measured on {verified}, rounding costs {choice.rounding_loss:.2%}: "
        f"{choice.share_after_rounding:.2%} are within {target.tolerance:g} of the exact sign",
        f"the worst matrix, {matrix.name} ({matrix.rows} x {matrix.columns}): "
        f"{worst.share:.2%} resolved; certificate: orthogonality {worst.orthogonality:.2g}, "
        f"asymmetry {worst.asymmetry:.2g}, negativity {worst.negativity:.2g}",
    ]


def muon_line(choice: CertifiedSchedule, target: Target) -> str:
    """The line of code that constructs `Muon` with the chosen schedule, with its imports."""
    code = choice.option.code
    imports = {
        "minimax(": "from memsolve_kernels.matrix_sign import minimax",
        "STOCK[": "from memsolve_kernels.matrix_sign import STOCK",
        "replace(": "from dataclasses import replace",
    }
    needed = [line for name, line in imports.items() if name in code]
    comment = f"  # {'; '.join(needed)}" if needed else ""
    return f"Muon(params, schedule={code}, dtype={target.dtype}){comment}"


def to_csv(spectra: Sequence[Spectrum], choice: CertifiedSchedule | None, target: Target) -> str:
    """Every matrix as a row of a table, for other tools."""
    text = UnixLines()
    table = csv.writer(text, lineterminator="\r\n")
    quantiles = [f"quantile {level:g}" for level in QUANTILES]
    table.writerow(
        ["matrix", "rows", "columns", "dtype", *quantiles, "largest", "floor", "noise", "resolved"]
    )
    for spectrum in spectra:
        matrix, values = spectrum.matrix, spectrum.values
        name = f"'{matrix.name}" if matrix.name.startswith(FORMULA) else matrix.name
        resolved = (
            ""
            if choice is None
            else resolved_share(choice.option.schedule, values, target.tolerance)
        )
        table.writerow(
            [
                name,
                matrix.rows,
                matrix.columns,
                format_dtype(matrix.dtype),
                *(spectrum.quantile(level) for level in (*QUANTILES, 1)),
                spectrum.floor,
                spectrum.noise,
                resolved,
            ]
        )
    return text.getvalue()
