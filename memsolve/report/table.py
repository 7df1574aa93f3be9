"""The table of fits: rows once, for the terminal and for the page."""

import re
from typing import Any, NamedTuple

from memsolve.engine import Summary
from memsolve.engine.study import AnyStudy
from memsolve.report.drawing import dims
from memsolve.report.printable import readable

LINE = 60
"""Letters of a cell, and no more: what is longer unfolds."""


class Cell(NamedTuple):
    """A cell of the page's table.

    Attributes:
        text: as it is shown.
        key: what it is sorted by, a number or words; None where nothing is known.
        more: what unfolds below it.
    """

    text: str
    key: float | str | None
    more: str = ""


def header(study: AnyStudy, summary: Summary[Any]) -> tuple[str, ...]:
    """Column titles of `rows`."""
    remark = ("first step",) if summary.remarks else ()
    return ("optimizer", "alpha", *study.rows(summary.fits)[0], *remark)


def rows(study: AnyStudy, summary: Summary[Any]) -> list[tuple[str, ...]]:
    """One row of text a fit: its name, its exponent, and what is to be said of its first step."""
    return [
        (
            fit.optimizer,
            f"{fit.alpha:g}",
            *columns.values(),
            *([summary.remarks.get(fit.optimizer, "")] if summary.remarks else []),
        )
        for fit, columns in zip(summary.fits, study.rows(summary.fits), strict=True)
    ]


def shown(study: AnyStudy, point: Any, remark: str) -> str:
    """What was measured, as text; where that is nothing, what is to be said of the first step."""
    text, score = study.value(point), study.score(point)
    return remark if remark and (_number(text) if score is None else score) == 0 else text


def notes(summary: Summary[Any]) -> list[str]:
    """What is to be known beside the table: settings that differ, and what is not in it."""
    summary = readable(summary)
    return [
        *([summary.differences] if summary.differences else []),
        *(f"left out: {why}" for why in summary.refused.values()),
        *(f"failed: {failure}" for failure in summary.failed),
        *(
            f"measured anew in every run, even with --resume: {label}, because an edit of it could "
            f"not be noticed ({why})"
            for label, why in summary.unidentified.items()
        ),
    ]


def details(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[str]]:
    """What was measured at each `d`, by column title, as text, one row a fit."""
    return {
        title: [cell.more or cell.text for cell in column]
        for title, column in _points(study, summary).items()
    }


def columns(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[Cell]]:
    """The page's table by column title: that of `rows`, then that of `details`."""
    texts = zip(*rows(study, summary), strict=True)
    named = dict(zip(header(study, summary), texts, strict=True))
    optimizer = [Cell(name, name) for name in named.pop("optimizer")]
    measured = {title: [Cell(text, _number(text)) for text in c] for title, c in named.items()}
    return {"optimizer": optimizer} | measured | _points(study, summary)


def _points(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[Cell]]:
    """A column a `d`; empty cells where a fit, merged from another study, was not measured."""
    found: dict[str, list[Cell]] = {}
    for dim in dims(summary):
        column = found[f"d = {dim}"] = []
        for fit in summary.fits:
            here = [point for point in fit.points if point.dim == dim]
            remark = summary.remarks.get(fit.optimizer, "")
            column += [_cell(study, point, remark) for point in here] or [Cell("", None)]
    return found


def _cell(study: AnyStudy, point: Any, remark: str) -> Cell:
    """A point in a line: in all detail, or as a value that unfolds."""
    detail = study.detail(point)
    key = _number(study.value(point))
    value = shown(study, point, remark)
    if value == remark != "":
        return Cell(remark, key, detail)
    return Cell(detail, key) if len(detail) <= LINE else Cell(value, key, detail)


def _number(text: str) -> float | None:
    """The first number of a text that is not part of a word, such as `B_20%`."""
    found = re.search(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)", text)
    return float(found[0]) if found else None
