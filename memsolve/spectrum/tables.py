"""What the command prints and writes: matrices, schedules, and the line for `Muon`."""

import csv
from collections.abc import Sequence

from memsolve_kernels.matrix_sign import STOCK
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
from memsolve.spectrum.singular_values import Spectrum, pooled

QUANTILES = 0.01, 0.1, 0.5
MOST_ROWS = 20
"""Rows of the terminal's table of matrices; the file has all."""


def matrices_table(spectra: Sequence[Spectrum]) -> Table:
    """The matrices whose 10% quantiles are smallest, and all together."""
    shown = sorted(spectra, key=lambda spectrum: spectrum.quantile(0.1))[:MOST_ROWS]
    left_out = len(spectra) - len(shown)
    caption = "singular values over the Frobenius norm of their matrix"
    if left_out:
        caption += f"; {left_out} matrices with larger 10% quantiles are not shown"
    table = Table(caption=caption, caption_justify="left")
    table.add_column("matrix", overflow="fold")
    for title in ("shape", "dtype", *(f"{level:.0%}" for level in QUANTILES), "largest", "noise"):
        table.add_column(title, justify="right", no_wrap=True)
    for spectrum in shown:
        matrix = spectrum.matrix
        name = Text(escape_unprintable(matrix.name))
        shape = f"{matrix.rows} x {matrix.columns}"
        table.add_row(name, shape, format_dtype(matrix.dtype), *_numbers(spectrum))
    values = pooled(spectra)
    everything = spectra[0]._replace(values=values)
    noise = sum(each.noise for each in spectra) / sum(each.matrix.rank for each in spectra)
    table.add_section()
    table.add_row("all", "", "", *_numbers(everything)[:-1], f"{noise:.1%}")
    return table


def _numbers(spectrum: Spectrum) -> list[str]:
    """Quantiles, the largest value, and the share of rounding error, as text."""
    quantiles = [f"{spectrum.quantile(level):.2g}" for level in (*QUANTILES, 1)]
    return [*quantiles, f"{spectrum.noise / spectrum.matrix.rank:.1%}"]


def schedules_table(
    spectra: Sequence[Spectrum], target: Target, chosen: CertifiedSchedule | None
) -> Table:
    """What some schedules resolve in exact arithmetic: the default, stock ones, the chosen one."""
    values, sizes = pooled(spectra), [spectrum.matrix.size for spectrum in spectra]
    muon = flops(STOCK["muon"], sizes)
    table = Table(
        caption=f"resolved: ends within {target.tolerance:g} of one, in exact arithmetic; "
        f"flops: relative to five steps of muon, a step in a wider dtype counted twice",
        caption_justify="left",
    )
    table.add_column("schedule", overflow="fold")
    for title in ("steps", "flops", "resolved"):
        table.add_column(title, justify="right", no_wrap=True)
    defaults = [default_schedule(spectrum, target.dtype) for spectrum in spectra]
    steps = sorted({len(schedule) for schedule in defaults})
    default_flops = sum(
        flops(schedule, [size]) for schedule, size in zip(defaults, sizes, strict=True)
    )
    table.add_row(
        f"default in {format_dtype(target.dtype)}",
        str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}",
        f"{default_flops / muon:.2f}",
        f"{default_share(spectra, target):.2%}",
    )
    named = [(name, STOCK[name]) for name in ("muon", "polar-express")]
    named.insert(1, ("polar-express, first 5", STOCK["polar-express"].take(5)))
    if chosen is not None:
        named.append((chosen.priced.code, chosen.priced.schedule))
    for name, schedule in named:
        table.add_row(
            Text(name),
            str(len(schedule)),
            f"{flops(schedule, sizes) / muon:.2f}",
            f"{resolved_share(schedule, values, target.tolerance):.2%}",
        )
    return table


def certificate_lines(chosen: CertifiedSchedule, target: Target) -> list[str]:
    """What is certified of the chosen schedule, in sentences."""
    schedule, measured, name = chosen.priced.schedule, chosen.verification, chosen.hardest.matrix
    low, high = schedule.band(lower=schedule.lower)
    return [
        f"singular values from {schedule.lower:.2g} to 1 end in [{low:.3g}, {high:.3g}] in exact "
        f"arithmetic: {chosen.share:.2%} of all are resolved",
        f"measured in {format_dtype(target.dtype)} on the hardest matrix, {name.name} "
        f"({name.rows} x {name.columns}): {measured.share:.2%} of its directions are within "
        f"{target.tolerance:g} of the exact sign's; rounding costs {chosen.lost:.2%}",
        f"its certificate: orthogonality {measured.orthogonality:.2g}, asymmetry "
        f"{measured.asymmetry:.2g}, negativity {measured.negativity:.2g}",
    ]


def muon_line(chosen: CertifiedSchedule, target: Target) -> str:
    """The line of code that constructs `Muon` with the chosen schedule, with its imports."""
    code = chosen.priced.code
    imports = {
        "minimax(": "from memsolve_kernels.matrix_sign import minimax",
        "STOCK[": "from memsolve_kernels.matrix_sign import STOCK",
        "replace(": "from dataclasses import replace",
    }
    needed = [line for name, line in imports.items() if name in code]
    comment = f"  # {'; '.join(needed)}" if needed else ""
    return f"Muon(params, schedule={code}, dtype={target.dtype}){comment}"


def to_csv(spectra: Sequence[Spectrum], chosen: CertifiedSchedule | None, target: Target) -> str:
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
            if chosen is None
            else resolved_share(chosen.priced.schedule, values, target.tolerance)
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
