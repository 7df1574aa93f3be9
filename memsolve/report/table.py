"""The table of fits: rows once, for the terminal and for the page."""

from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from memsolve import theory
from memsolve.report.words import LABELS, interval, law
from memsolve.study import Fit, Summary


def header(summary: Summary) -> tuple[str, ...]:
    """Column titles of `rows`."""
    exponents = () if summary.study == "precision" else ("exponent in d [95%]", "theory")
    return ("optimizer", "alpha", *exponents)


def rows(summary: Summary) -> list[tuple[str, ...]]:
    """One row of text a fit: its name, and its exponent where that is the point of the study."""

    def exponents(fit: Fit) -> tuple[str, ...]:
        if summary.study == "precision":
            return ()
        status = theory.STATUS.get((fit.optimizer, fit.quantity))
        return interval(fit.estimate), law(fit.theory, status)

    return [(fit.optimizer, f"{fit.alpha:g}", *exponents(fit)) for fit in summary.fits]


def details(summary: Summary) -> dict[str, list[str]]:
    """What was measured at each `d`, by column title, as text, one row a fit."""
    dims = [point["dim"] for point in summary.fits[0].points]
    columns = zip(*(fit.points for fit in summary.fits), strict=True)
    return {
        f"d = {dim}": [_detail(point) for point in column]
        for dim, column in zip(dims, columns, strict=True)
    }


def terminal_table(summary: Summary) -> Table:
    """The table for a terminal."""
    table = Table(title=f"{summary.study}: {LABELS[summary.study]}", title_justify="left")
    for title in header(summary):
        table.add_column(title, overflow="fold")
    dims = ", ".join(str(point["dim"]) for point in summary.fits[0].points)
    table.add_column(f"at d = {dims}", justify="right", no_wrap=True)
    for row, fit in zip(rows(summary), summary.fits, strict=True):
        cells = *row, ", ".join(_value(point) for point in fit.points)
        table.add_row(*map(Text, cells))  # a label may hold what rich takes for markup
    return table


def _value(point: dict[str, Any]) -> str:
    if "share" in point:
        return "?" if point["share"] is None else f"{point['share']:.0%}"
    value = point["value"] if "value" in point else np.mean(point["recovered"])
    return "?" if value is None else _count(value)


def _count(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _detail(point: dict[str, Any]) -> str:
    if "share" in point:
        found = f"{_value(point)} of the exact one"
        if point["share_low"] is not None:
            found += f" [{point['share_low']:.0%}, {point['share_high']:.0%}]"
        return found
    if "value" not in point:
        return f"{_value(point)} (99% of the top {np.mean(point['top_rank']):.0f})"
    if point["low"] is None:
        return point["note"] if point["value"] is None else _value(point)
    crossing = f"{_value(point)} [{_count(point['low'])}, {_count(point['high'])}]"
    return f"{crossing}, peak {point['peak'] / point['plateau']:.2f} of the plateau"
