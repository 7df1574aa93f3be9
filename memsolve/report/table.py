"""The table of fits, shared by the terminal and the page."""

import math
from typing import Any

from memsolve.engine import Summary, TableCell
from memsolve.engine.study import AnyStudy
from memsolve.report.drawing import dims
from memsolve.report.escape import escape_all

MAX_LETTERS = 60
"""Longer details of a point are shown on demand."""

Columns = dict[str, list[TableCell]]
"""By title, a cell for each fit."""


def columns(study: AnyStudy, summary: Summary[Any]) -> Columns:
    """The table of the page."""
    return fit_columns(study, summary) | point_columns(study, summary)


def fit_columns(study: AnyStudy, summary: Summary[Any]) -> Columns:
    """The names of fits, what the study shows of them, and remarks on first steps, if any."""
    rows = [
        {
            "optimizer": TableCell(fit.optimizer, fit.optimizer),
            "alpha": TableCell(f"{fit.alpha:g}", fit.alpha),
            **cells,
        }
        for fit, cells in zip(summary.fits, study.rows(summary.fits), strict=True)
    ]
    if summary.remarks:
        for row, fit in zip(rows, summary.fits, strict=True):
            remark = summary.remarks.get(fit.optimizer, "")
            row["first step"] = TableCell(remark, remark or None)
    return {title: [row[title] for row in rows] for title in rows[0]}


def point_columns(study: AnyStudy, summary: Summary[Any]) -> Columns:
    """A column for each `d`; empty cells where a fit of a merged study was not measured."""
    columns: Columns = {}
    for dim in dims(summary):
        column = columns[f"d = {dim}"] = []
        for fit in summary.fits:
            remark = summary.remarks.get(fit.optimizer, "")
            points = [point for point in fit.points if point.dim == dim]
            column += [_point_cell(study, point, remark) for point in points] or [TableCell("")]
    if all(cell.key is None for column in columns.values() for cell in column):
        return _sorted_by_text(columns)
    return columns


def header(study: AnyStudy, summary: Summary[Any]) -> tuple[str, ...]:
    """Titles of `rows`."""
    return tuple(fit_columns(study, summary))


def rows(study: AnyStudy, summary: Summary[Any]) -> list[tuple[str, ...]]:
    """The texts of `fit_columns`, by fit."""
    cells = zip(*fit_columns(study, summary).values(), strict=True)
    return [tuple(cell.text for cell in row) for row in cells]


def details(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[str]]:
    """Everything that was measured at each `d`, as text, by title and fit."""
    return {
        title: [cell.details or cell.text for cell in column]
        for title, column in point_columns(study, summary).items()
    }


def format_point(study: AnyStudy, point: Any, remark: str) -> str:
    """The value of a point as text; where its score is 0, with the remark on the first step."""
    value = study.value(point)
    return f"{value}: {remark}" if remark and study.score(point) == 0 else value


def notes(summary: Summary[Any]) -> list[str]:
    """Settings in which merged studies differ, and optimizers that the table lacks."""
    summary = escape_all(summary)
    return [
        *([summary.differences] if summary.differences else []),
        *(f"left out: {why}" for why in summary.refused.values()),
        *(f"failed: {failure}" for failure in summary.failed),
        *(
            f"measured anew in every run, even with --resume: {label}, because its edits cannot be "
            f"detected ({why})"
            for label, why in summary.unidentified.items()
        ),
    ]


def _point_cell(study: AnyStudy, point: Any, remark: str) -> TableCell:
    """All details of a point if they fit in a line; otherwise its value, and details on demand."""
    details, score = study.detail(point), study.score(point)
    key = score if score is not None and math.isfinite(score) else None
    if remark and score == 0:
        return TableCell(format_point(study, point, remark), key, details)
    if len(details) <= MAX_LETTERS:
        return TableCell(details, key)
    return TableCell(study.value(point), key, details)


def _sorted_by_text(columns: Columns) -> Columns:
    """The columns of a study without scores."""
    return {
        title: [cell._replace(key=cell.text or None) for cell in column]
        for title, column in columns.items()
    }
