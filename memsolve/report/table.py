"""The table of fits: rows once, for the terminal and for the page."""

from typing import Any

from rich.table import Table
from rich.text import Text

from memsolve.engine import Study, Summary

AnyStudy = Study[Any, Any, Any]


def header(study: AnyStudy, summary: Summary[Any]) -> tuple[str, ...]:
    """Column titles of `rows`."""
    return ("optimizer", "alpha", *study.columns(summary.fits[0]))


def rows(study: AnyStudy, summary: Summary[Any]) -> list[tuple[str, ...]]:
    """One row of text a fit: its name, and its exponent where that is the point of the study."""
    return [(fit.optimizer, f"{fit.alpha:g}", *study.columns(fit).values()) for fit in summary.fits]


def details(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[str]]:
    """What was measured at each `d`, by column title, as text, one row a fit."""
    dims = [point.dim for point in summary.fits[0].points]
    columns = zip(*(fit.points for fit in summary.fits), strict=True)
    return {
        f"d = {dim}": [study.detail(point) for point in column]
        for dim, column in zip(dims, columns, strict=True)
    }


def terminal_table(study: AnyStudy, summary: Summary[Any]) -> Table:
    """The table for a terminal."""
    title, caption = f"{study.name}: {study.quantity}", study.legend or None
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for title in header(study, summary):
        table.add_column(title, overflow="fold")
    dims = ", ".join(str(point.dim) for point in summary.fits[0].points)
    table.add_column(f"at d = {dims}", justify="right", no_wrap=True)
    for row, fit in zip(rows(study, summary), summary.fits, strict=True):
        cells = *row, ", ".join(study.value(point) for point in fit.points)
        table.add_row(*map(Text, cells))  # a label may hold what rich takes for markup
    return table
