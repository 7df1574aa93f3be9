"""The table of fits: rows once, for the terminal and for the page."""

from typing import Any

import numpy as np
from rich.table import Table

from memsolve import theory
from memsolve.report.words import LABELS, interval, law
from memsolve.study import Summary

HEADER = ("optimizer", "alpha", "exponent in d [95%]", "theory")


def rows(summary: Summary) -> list[tuple[str, ...]]:
    """What belongs under `HEADER`, as text, one row a fit."""
    return [
        (
            fit.optimizer,
            f"{fit.alpha:g}",
            interval(fit.estimate),
            law(fit.theory, theory.STATUS.get((fit.optimizer, fit.quantity))),
        )
        for fit in summary.fits
    ]


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
    table = Table(title=summary.study, title_justify="left")
    for title in HEADER:
        table.add_column(title, overflow="fold")
    dims = ", ".join(str(point["dim"]) for point in summary.fits[0].points)
    table.add_column(f"{LABELS[summary.fits[0].quantity]} at d = {dims}", justify="right")
    for row, fit in zip(rows(summary), summary.fits, strict=True):
        table.add_row(*row, ", ".join(_value(point) for point in fit.points))
    return table


def _value(point: dict[str, Any]) -> str:
    value = point["value"] if "value" in point else np.mean(point["recovered"])
    return "?" if value is None else f"{value:.4g}"


def _detail(point: dict[str, Any]) -> str:
    if "value" not in point:
        return f"{_value(point)} (99% of the top {np.mean(point['top_rank']):.0f})"
    if point["low"] is None:
        return point["note"] if point["value"] is None else _value(point)
    return f"{_value(point)} [{point['low']:.4g}, {point['high']:.4g}]"
