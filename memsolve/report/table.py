"""The table of fits, shared by the terminal and the page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from memsolve.engine import Row, Summary, TableCell
from memsolve.engine.study import AnyStudy
from memsolve.report.escape import escape_all

MAX_LETTERS = 60
"""Longer details of a point are shown on demand."""

Columns = dict[str, list[TableCell]]
"""By title, a cell for each row."""


def columns(study: AnyStudy, summary: Summary[Any]) -> Columns:
    """The table of the page."""
    return fit_columns(study, summary) | point_columns(study, summary)


def paper_columns(study: AnyStudy, summary: Summary[Any]) -> Columns:
    """The table of a paper: without the points where rows hold those of several alphas."""
    if any(len(row.fits) > 1 for row in study.rows(summary.fits)):
        return fit_columns(study, summary)
    return columns(study, summary)


def fit_columns(study: AnyStudy, summary: Summary[Any]) -> Columns:
    """The names of rows, what the study shows of them, and remarks on first steps, if any."""
    rows = []
    for row in study.rows(summary.fits):
        cells = row.names | row.cells
        if summary.remarks:
            remark = remark_of(summary, row)
            cells["first step"] = TableCell(remark, remark or None)
        rows.append(cells)
    return {title: [cells[title] for cells in rows] for title in rows[0]}


def point_columns(study: AnyStudy, summary: Summary[Any]) -> Columns:
    """A column for each `d`; empty cells where a fit of a merged study was not measured.

    Where rows hold fits of several alphas, a column for each alpha and `d`.
    """
    rows = study.rows(summary.fits)
    titles = point_titles(rows)
    columns: Columns = {title: [] for title in titles.values()}
    for row in rows:
        cells = {
            title: _point_cell(study, point, remark_of(summary, row))
            for title, point in points_of(row, titles).items()
        }
        for title, column in columns.items():
            column.append(cells.get(title, TableCell("")))
    if all(cell.key is None for column in columns.values() for cell in column):
        return _sorted_by_text(columns)
    return columns


def point_titles(rows: Sequence[Row[Any]]) -> dict[tuple[float, int], str]:
    """Titles of the columns of points, by alpha and `d`: `d = 32`, or `alpha = 1.5, d = 32`."""
    points = {(fit.alpha, point.dim) for row in rows for fit in row.fits for point in fit.points}
    if all(len(row.fits) == 1 for row in rows):
        in_order = sorted(points, key=lambda point: point[1])
        return {(alpha, dim): f"d = {dim}" for alpha, dim in in_order}
    return {(alpha, dim): f"alpha = {alpha:g}, d = {dim}" for alpha, dim in sorted(points)}


def points_of(row: Row[Any], titles: Mapping[tuple[float, int], str]) -> dict[str, Any]:
    """The points of a row, by their titles, in the order of `point_titles`."""
    points = {(fit.alpha, point.dim): point for fit in row.fits for point in fit.points}
    return {title: points[at] for at, title in titles.items() if at in points}


def header(study: AnyStudy, summary: Summary[Any]) -> tuple[str, ...]:
    """Titles of `rows`."""
    return tuple(fit_columns(study, summary))


def rows(study: AnyStudy, summary: Summary[Any]) -> list[tuple[str, ...]]:
    """The texts of `fit_columns`, by row."""
    cells = zip(*fit_columns(study, summary).values(), strict=True)
    return [tuple(cell.text for cell in row) for row in cells]


def details(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[str]]:
    """Everything that was measured at each `d`, as text, by title and row."""
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


def remark_of(summary: Summary[Any], row: Row[Any]) -> str:
    """The remark on the first step of a row's optimizer."""
    return summary.remarks.get(row.fits[0].optimizer, "")


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
