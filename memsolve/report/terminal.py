"""The table of fits for a terminal: complete if it fits, otherwise shortened; no word is broken."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from memsolve.engine import Summary
from memsolve.engine.study import AnyStudy
from memsolve.report.drawing import dims
from memsolve.report.escape import escape_all
from memsolve.report.names import shorten_names
from memsolve.report.table import format_point, header, rows

UNBOUNDED = 10_000
"""Width for a file or a pipe, in which nothing is shortened."""

MIN_NAME_WIDTH = 8
"""Letters of an optimizer's name in the narrowest terminal."""

POINTS = "at d = "
"""Beginning of the title of the column of points."""

COLUMN_FRAME = 3
"""Width of the frame of a column."""

Columns = Mapping[str, list[str]]
"""Texts by title, the names of optimizers first and the points last."""


def terminal_table(study: AnyStudy, summary: Summary[Any], width: int) -> Table:
    """The table for a terminal of so many columns, without a broken word.

    Doubts that all rows share are shown once, below the table. If the table is too wide, names are
    shortened, and columns with one value in all rows move below it. If it still is too wide, each
    `d` has a line of its own, and the last columns are left to the report.
    """
    summary, caveats = _without_shared_doubts(study, escape_all(summary))
    caption = [*([study.legend] if study.legend else []), *caveats]
    columns, points = _fit_columns(study, summary), _points(study, summary)
    title = f"{POINTS}{', '.join(map(str, dims(summary)))}"
    table = columns | {title: [", ".join(texts) for texts in points]}
    if _table_width(table, _longest_line) > width:
        columns, constant = _without_constant_columns(_with_short_names(columns))
        caption += [f"in every row: {'; '.join(constant)}"] if constant else []
        table = columns | {title: table[title]}
        if _table_width(table, _longest_word) > width:
            table = columns | {title: ["\n".join(texts) for texts in points]}
            left_out = _overflowing(table, width)
            table = {head: texts for head, texts in table.items() if head not in left_out}
            caption += [f"in the report: {', '.join(left_out)}"] if left_out else []
    return _build(f"{study.name}: {study.quantity}", table, caption, width)


def _without_shared_doubts(
    study: AnyStudy, summary: Summary[Any]
) -> tuple[Summary[Any], list[str]]:
    """The summary without doubts if all rows show the same, and those as a line of the caption."""
    doubts = {fit.estimate.doubts for fit in summary.fits if fit.estimate.value is not None}
    fits = [replace(fit, estimate=replace(fit.estimate, doubts="")) for fit in summary.fits]
    without = replace(summary, fits=fits)
    if len(doubts) != 1 or rows(study, without) == rows(study, summary):
        return summary, []
    return without, [f"caveats in every row: {', '.join(doubts)}"]


def _fit_columns(study: AnyStudy, summary: Summary[Any]) -> dict[str, list[str]]:
    texts = map(list, zip(*rows(study, summary), strict=True))
    return dict(zip(header(study, summary), texts, strict=True))


def _points(study: AnyStudy, summary: Summary[Any]) -> list[list[str]]:
    """The values of the points of each fit."""
    return [
        [format_point(study, point, summary.remarks.get(fit.optimizer, "")) for point in fit.points]
        for fit in summary.fits
    ]


def _with_short_names(columns: Columns) -> dict[str, list[str]]:
    names = columns["optimizer"]
    short = shorten_names(names)
    return {**columns, "optimizer": [short[name] for name in names]}


def _without_constant_columns(columns: Columns) -> tuple[dict[str, list[str]], list[str]]:
    """The columns that differ between rows, and title and text of the others."""
    constant = [
        head
        for head, texts in columns.items()
        if head != "optimizer" and len(set(texts)) == 1 < len(texts)
    ]
    varying = {head: texts for head, texts in columns.items() if head not in constant}
    return varying, [f"{head} {columns[head][0]}" for head in constant]


def _overflowing(columns: Columns, width: int) -> list[str]:
    """The last columns between names and points whose longest words do not fit."""
    names, *middle, points = columns.items()
    room = width - _frame_width(columns)
    room -= min(_longest_word(names), MIN_NAME_WIDTH) + _longest_word(points)
    left_out: list[str] = []
    while middle and sum(map(_longest_word, middle)) > room:
        left_out.insert(0, middle.pop()[0])
        room += COLUMN_FRAME
    return left_out


def _build(title: str, columns: Columns, caption: list[str], width: int) -> Table:
    table = Table(
        title=Text(title, "table.title"),
        caption=Text("\n".join(caption), "table.caption") if caption else None,
        title_justify="left",
        caption_justify="left",
    )
    for head, column_width in zip(columns, _column_widths(columns, width), strict=True):
        justify: Literal["left", "right"] = "right" if head.startswith(POINTS) else "left"
        no_wrap = head == "optimizer"
        table.add_column(Text(head), width=column_width, no_wrap=no_wrap, justify=justify)
    for texts in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, texts))  # rich would take some labels for markup
    return table


def _column_widths(columns: Columns, width: int) -> list[int]:
    """Narrow the widest columns first, none below its longest word; then truncate names."""
    widths = list(map(_longest_line, columns.items()))
    least = list(map(_longest_word, columns.items()))
    if sum(least) + _frame_width(columns) > width:
        least[0] = min(least[0], MIN_NAME_WIDTH)
    for _ in range(sum(widths) + _frame_width(columns) - width):
        spare = [index for index, wide in enumerate(widths) if wide > least[index]]
        if spare:
            widths[max(spare, key=widths.__getitem__)] -= 1
    return widths


def _table_width(columns: Columns, column_width: Callable[[tuple[str, list[str]]], int]) -> int:
    return sum(map(column_width, columns.items())) + _frame_width(columns)


def _frame_width(columns: Columns) -> int:
    """Width of the lines between columns, and of the blanks around them."""
    return COLUMN_FRAME * len(columns) + 1


def _longest_line(column: tuple[str, list[str]]) -> int:
    head, texts = column
    return max(cell_len(line) for text in (head, *texts) for line in text.splitlines() or [""])


def _longest_word(column: tuple[str, list[str]]) -> int:
    """Of a column that may wrap; names and points may not."""
    head, texts = column
    unbroken = head == "optimizer" or head.startswith(POINTS)
    longest = _longest_line(("", texts)) if unbroken else 0
    return max(longest, *(cell_len(word) for text in (head, *texts) for word in text.split()))
