"""The table of fits: rows once, for the terminal and for the page."""

from typing import Any

from rich.table import Table
from rich.text import Text

from memsolve.engine import Study, Summary

AnyStudy = Study[Any, Any, Any]


def header(study: AnyStudy, summary: Summary[Any]) -> tuple[str, ...]:
    """Column titles of `rows`."""
    remark = ("first step",) if summary.remarks else ()
    return ("optimizer", "alpha", *study.columns(summary.fits[0]), *remark)


def rows(study: AnyStudy, summary: Summary[Any]) -> list[tuple[str, ...]]:
    """One row of text a fit: its name, its exponent, and what is to be said of its first step."""
    return [
        (
            fit.optimizer,
            f"{fit.alpha:g}",
            *study.columns(fit).values(),
            *([summary.remarks.get(fit.optimizer, "")] if summary.remarks else []),
        )
        for fit in summary.fits
    ]


def shown(text: str, remark: str) -> str:
    """What was measured, as text; where that is nothing, what the probe says of it."""
    first = text.partition(" ")[0].rstrip("%")
    nothing = first.replace(".", "").strip("0") == "" and first != ""
    return remark if nothing and remark else text


def notes(summary: Summary[Any]) -> list[str]:
    """What is not in the table, and why: optimizers that were refused, and what failed later."""
    return [
        *(f"left out: {why}" for why in summary.refused.values()),
        *(f"failed: {failure}" for failure in summary.failed),
    ]


def details(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[str]]:
    """What was measured at each `d`, by column title, as text, one row a fit."""
    dims = [point.dim for point in summary.fits[0].points]
    columns = zip(*(fit.points for fit in summary.fits), strict=True)
    return {
        f"d = {dim}": [
            shown(study.detail(point), summary.remarks.get(fit.optimizer, ""))
            for point, fit in zip(column, summary.fits, strict=True)
        ]
        for dim, column in zip(dims, columns, strict=True)
    }


def terminal_table(study: AnyStudy, summary: Summary[Any]) -> Table:
    """The table for a terminal."""
    table = Table(title=f"{study.name}: {study.quantity}", title_justify="left")
    for title in header(study, summary):
        table.add_column(title, overflow="fold")
    dims = ", ".join(str(point.dim) for point in summary.fits[0].points)
    table.add_column(f"at d = {dims}", justify="right", no_wrap=True)
    for row, fit in zip(rows(study, summary), summary.fits, strict=True):
        remark = summary.remarks.get(fit.optimizer, "")
        cells = *row, ", ".join(shown(study.value(point), remark) for point in fit.points)
        table.add_row(*map(Text, cells))  # a label may hold what rich takes for markup
    return table
