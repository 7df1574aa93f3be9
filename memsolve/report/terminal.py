"""The table of fits for a terminal: complete if it fits, otherwise folded into several tables.

No word and no interval is broken over lines.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from memsolve.engine import Summary
from memsolve.engine.study import AnyStudy
from memsolve.report.escape import escape_all
from memsolve.report.names import shorten_names
from memsolve.report.table import (
    format_point,
    header,
    point_titles,
    points_of,
    remark_of,
    rows,
)

UNBOUNDED = 10_000
"""Width for a file or a pipe, in which nothing is shortened."""

POINTS = "at "
"""Beginning of the title of the column of points."""

NAME_WIDTH = 20
"""Letters to which names are shortened before any other column is narrowed."""

COLUMN_FRAME = 3
"""Width of the frame of a column."""

KEYS = "optimizer", "alpha"
"""Columns that name a row; every table has them."""

INTERVAL = re.compile(r"\S+ \[[^\[\]]*\]")
"""A value with its interval, as `1.36 [1.33, 1.39]`."""

BLANK = "\N{NO-BREAK SPACE}"

Columns = Mapping[str, list[str]]
"""Texts by title, the names of optimizers first and the points last."""


def terminal_tables(study: AnyStudy, summary: Summary[Any], width: int) -> list[Table | Text]:
    """The table for a terminal of so many columns, folded into several if it is too wide.

    Doubts that all rows share are shown once, below the table. What follows is done in this order,
    as far as the width requires it: names are shortened, and columns with one value in all rows
    move below the table; each `d` has a line of its own; points wider than half of the terminal are
    left to the report; the last columns before the points move to further tables. What is left to
    the report is named.

    Returns:
        The tables; what is below them is of the only table, or follows the last one.
    """
    summary, caveats = _without_shared_doubts(study, escape_all(summary))
    caption = [*([study.legend] if study.legend else []), *caveats]
    columns, points = _fit_columns(study, summary), _points(study, summary)
    title = POINTS + _list_titles(point_titles(study.rows(summary.fits)))
    table: Columns = columns | {title: [", ".join(texts) for texts in points]}
    folded: list[Columns] = []
    if _table_width(table, _longest_line) > width:
        columns, constant = _without_constant_columns(_with_short_names(columns))
        caption += [f"in every row: {'; '.join(constant)}"] if constant else []
        table = columns | {title: table[title]}
        if _table_width(table, _longest_word) > width:
            table = columns | {title: ["\n".join(texts) for texts in points]}
            (table, *folded), left_out = _fold(table, width, study.name_width)
            caption += [f"in the report: {', '.join(left_out)}"] if left_out else []
    heading = f"{study.name}: {study.quantity}"
    build = partial(_build, width=width, name_width=study.name_width)
    if not folded:
        return [build(heading, table, caption)]
    further = [build(f"{study.name}, further columns", each, []) for each in folded]
    return [build(heading, table, []), *further, Text("\n".join(caption), "table.caption")]


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
    columns = zip(*rows(study, summary), strict=True)
    unbroken = [[_unbroken(text) for text in texts] for texts in columns]
    return dict(zip(header(study, summary), unbroken, strict=True))


def _points(study: AnyStudy, summary: Summary[Any]) -> list[list[str]]:
    """The values of the points of each row."""
    fit_rows = study.rows(summary.fits)
    titles = point_titles(fit_rows)
    return [
        [
            _unbroken(format_point(study, point, remark_of(summary, row)))
            for point in points_of(row, titles).values()
        ]
        for row in fit_rows
    ]


def _list_titles(titles: Mapping[tuple[float, int], str]) -> str:
    """`d = 32, 64`; where rows hold fits of several alphas, `alpha = 1.2, 1.5; d = 32, 64`."""
    dims = f"d = {', '.join(map(str, sorted({dim for _, dim in titles})))}"
    if not any(title.startswith("alpha") for title in titles.values()):
        return dims
    alphas = sorted({alpha for alpha, _ in titles})
    return f"alpha = {', '.join(f'{alpha:g}' for alpha in alphas)}; {dims}"


def _unbroken(text: str) -> str:
    """A text whose intervals are not broken over lines."""
    return INTERVAL.sub(lambda match: match[0].replace(" ", BLANK), text)


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
    return varying, [f"{head} {columns[head][0].replace(BLANK, ' ')}" for head in constant]


def _fold(columns: Columns, width: int, name_width: int) -> tuple[list[Columns], list[str]]:
    """Tables of columns that fit, the first with the points; and titles of the columns left out."""
    *heads, points = columns
    is_wide = 2 * _longest_line((points, columns[points])) > width
    keys = {head: columns[head] for head in heads if head in KEYS}
    last = {} if is_wide else {points: columns[points]}
    tables: list[Columns] = []
    left_out: list[str] = []
    middle = [head for head in heads if head not in KEYS]
    while middle or last:
        candidates = [
            keys | {head: columns[head] for head in middle[:count]} | last
            for count in range(len(middle) + 1)
        ]
        count = sum(_least_width(each, name_width) <= width for each in candidates[1:])
        if count or last:
            tables.append(candidates[count])
        else:
            left_out.append(middle[0])
            count = 1
        middle, last = middle[count:], {}
    return tables or [keys], [*left_out, *[points] * is_wide]


def _least_width(columns: Columns, name_width: int) -> int:
    """The width of a table whose names are truncated and whose texts are wrapped."""
    names = _longest_word(("optimizer", columns["optimizer"]))
    return _table_width(columns, _longest_word) - max(0, names - name_width)


def _build(title: str, columns: Columns, caption: list[str], width: int, name_width: int) -> Table:
    table = Table(
        title=Text(title, "table.title"),
        caption=Text("\n".join(caption), "table.caption") if caption else None,
        title_justify="left",
        caption_justify="left",
    )
    widths = _column_widths(columns, width, name_width)
    names = columns["optimizer"]
    is_narrow = max(map(cell_len, names)) > widths[0]
    short = shorten_names(names, widths[0]) if is_narrow else {name: name for name in names}
    for head, column_width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if head.startswith(POINTS) else "left"
        title_text = Text(_wrap(head, column_width))
        table.add_column(title_text, width=column_width, no_wrap=True, justify=justify)
    for texts in zip(*columns.values(), strict=True):  # as Text: rich would take labels for markup
        name, *others = texts
        wrapped = map(_wrap, others, widths[1:])
        table.add_row(Text(short[name]), *map(Text, wrapped))
    return table


def _wrap(text: str, width: int) -> str:
    """The text in lines of a width, broken at spaces alone."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, *words = paragraph.split(" ")
        for word in words:
            if cell_len(line) + 1 + cell_len(word) <= width:
                line = f"{line} {word}"
            else:
                lines.append(line)
                line = word
        lines.append(line)
    return "\n".join(lines).replace(BLANK, " ")


def _column_widths(columns: Columns, width: int, name_width: int) -> list[int]:
    """Narrow names a little, then the widest columns, none below its longest word, then names."""
    widths = list(map(_longest_line, columns.items()))
    excess = max(0, sum(widths) + _frame_width(columns) - width)
    widths[0] -= min(excess, max(0, widths[0] - NAME_WIDTH))
    least = list(map(_longest_word, columns.items()))
    if sum(least) + _frame_width(columns) > width:
        least[0] = min(least[0], name_width)
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
    return max(cell_len(line) for text in (head, *texts) for line in text.split("\n"))


def _longest_word(column: tuple[str, list[str]]) -> int:
    """Of a column that may wrap; names and points may not."""
    head, texts = column
    unbroken = head == "optimizer" or head.startswith(POINTS)
    longest = _longest_line(("", texts)) if unbroken else 0
    words = (word for text in (head, *texts) for word in re.split("[ \n]", text))
    return max(longest, *map(cell_len, words))
