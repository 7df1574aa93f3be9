"""The table of fits for a terminal: whole where it fits, shortened where not, no word broken."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from memsolve.engine import Summary
from memsolve.engine.study import AnyStudy
from memsolve.report.drawing import dims
from memsolve.report.names import short
from memsolve.report.printable import readable
from memsolve.report.table import header, rows, shown

UNBOUNDED = 10_000
"""Width of what is no terminal: a file or a pipe, which cuts nothing."""

SHORTEST = 8
"""Letters that a name keeps in the narrowest terminal."""

Columns = Mapping[str, list[str]]
"""Texts by title, the names first."""


def terminal_table(study: AnyStudy, summary: Summary[Any], width: int) -> Table:
    """The table for a terminal of so many columns: no word of it is broken.

    Doubts that all rows share stand once below it. Where it is too wide, so does every column that
    says one thing, and names are short; where it still is, each `d` has a line, and then the last
    columns are left to the report.
    """
    summary = readable(summary)
    below = [study.legend] if study.legend else []
    certain = _without_doubts(summary)
    doubts = {fit.estimate.doubts for fit in summary.fits if fit.estimate.value is not None}
    if len(doubts) == 1 and rows(study, certain) != rows(study, summary):
        below += [f"to doubt in every row: {', '.join(doubts)}"]
        summary = certain
    texts = dict(
        zip(header(study, summary), map(list, zip(*rows(study, summary), strict=True)), strict=True)
    )
    values = [
        [shown(study, point, summary.remarks.get(fit.optimizer, "")) for point in fit.points]
        for fit in summary.fits
    ]
    at = f"at d = {', '.join(map(str, dims(summary)))}"
    whole = texts | {at: [", ".join(row) for row in values]}
    if sum(map(_longest_line, whole.items())) + _frame(whole) > width:
        names = texts.pop("optimizer")
        brief = short(names)
        same = [head for head, column in texts.items() if len(set(column)) == 1 < len(column)]
        told = [f"{head} {texts.pop(head)[0]}" for head in same]
        below += [f"in every row: {'; '.join(told)}"] if told else []
        texts = {"optimizer": [brief[name] for name in names], **texts}
        whole = texts | {at: whole[at]}
        if sum(map(_longest_word, whole.items())) + _frame(whole) > width:
            whole = texts | {at: ["\n".join(row) for row in values]}
            left_out = _too_many(whole, width)
            whole = {head: column for head, column in whole.items() if head not in left_out}
            below += [f"in the report: {', '.join(left_out)}"] if left_out else []
    return _drawn(f"{study.name}: {study.quantity}", whole, below, width)


def _drawn(title: str, columns: Columns, below: list[str], width: int) -> Table:
    caption = Text("\n".join(below), "table.caption") if below else None
    titled = Text(title, "table.title")
    table = Table(title=titled, caption=caption, title_justify="left", caption_justify="left")
    for head, wide in zip(columns, _widths(columns, width), strict=True):
        justify: Literal["left", "right"] = "right" if _measured(head) else "left"
        table.add_column(Text(head), width=wide, no_wrap=head == "optimizer", justify=justify)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))  # a label may hold what rich takes for markup
    return table


def _widths(columns: Columns, width: int) -> list[int]:
    """Widths of columns: the widest wrap first, none below its longest word; then names are cut."""
    found = list(map(_longest_line, columns.items()))
    least = list(map(_longest_word, columns.items()))
    least[0] = min(least[0], SHORTEST) if sum(least) + _frame(columns) > width else least[0]
    for _ in range(sum(found) + _frame(columns) - width):
        spare = [place for place, wide in enumerate(found) if wide > least[place]]
        if spare:
            found[max(spare, key=found.__getitem__)] -= 1
    return found


def _too_many(columns: Columns, width: int) -> list[str]:
    """The last of the columns between names and counts for whose longest words there is no room."""
    first, *middle, last = columns.items()
    room = width - _frame(columns) - min(_longest_word(first), SHORTEST) - _longest_word(last)
    found: list[str] = []
    while middle and sum(map(_longest_word, middle)) > room:
        found.insert(0, middle.pop()[0])
        room += 3  # of its frame
    return found


def _frame(columns: Columns) -> int:
    """Width of the lines between columns, and of the blanks beside them."""
    return 3 * len(columns) + 1


def _longest_line(column: tuple[str, list[str]]) -> int:
    head, texts = column
    return max(cell_len(line) for text in (head, *texts) for line in text.splitlines() or [""])


def _longest_word(column: tuple[str, list[str]]) -> int:
    head, texts = column
    words = _longest_line(("", texts)) if head == "optimizer" or _measured(head) else 0
    return max(words, *(cell_len(word) for text in (head, *texts) for word in text.split()))


def _measured(head: str) -> bool:
    return head.startswith("at d = ")


def _without_doubts(summary: Summary[Any]) -> Summary[Any]:
    fits = [replace(fit, estimate=replace(fit.estimate, doubts="")) for fit in summary.fits]
    return replace(summary, fits=fits)
