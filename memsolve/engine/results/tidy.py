"""Every measured number as a row of one table, for other tools."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from memsolve.engine.cell import Cell
from memsolve.engine.storage import folder

OPTIONAL = "lr", "schedule", "ratio", "kappa"
"""Fields that the cells of some studies have."""

HEADER = (
    "optimizer",
    "alpha",
    "d",
    "N",
    "batch",
    *OPTIONAL,
    "seed",
    "step",
    "quantity",
    "value",
)


FORMULA = "=", "+", "-", "@", "\t", "\r", "\n", "'"
"""A text that begins so gets an apostrophe before it.

Spreadsheets take the first six for the start of a formula (OWASP, "CSV Injection"); the last makes
it possible to undo: whatever begins with an apostrophe had one put before it.
"""


class UnixLines(io.StringIO):
    """Rows of a CSV writer that ends them in CR LF, so that it quotes both; kept with LF alone."""

    def write(self, row: str) -> int:
        """Add a row."""
        return super().write(row.removesuffix("\r\n") + "\n")


class Measured(NamedTuple):
    """One number of one cell.

    Attributes:
        step: after which it was measured; 0 if it belongs to the run.
        quantity: its name.
        value: the number.
    """

    step: int
    quantity: str
    value: float


def measured(fields: Iterable[tuple[str, object]], step: int) -> Iterator[Measured]:
    """Numbers of a result: of a list one a step from 1, of a single one at `step`.

    A single one that was not measured, and is NaN, is left out.
    """
    for name, value in fields:
        if isinstance(value, int | float):
            if not (isinstance(value, float) and math.isnan(value)):
                yield Measured(step, name, value)
        elif isinstance(value, list):
            for place, entry in enumerate(value, start=1):
                yield Measured(place, name, entry)


def write(path: Path, rows: Iterable[tuple[Cell, Measured]], fields: Sequence[str] = ()) -> None:
    """Write `HEADER`, further fields of cells, and the rows; the population's batch is `inf`.

    `OPTIONAL` fields are empty where cells have none. Texts that a spreadsheet would take for a
    formula are escaped, see `FORMULA`; numbers are not.
    """
    text = UnixLines()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow((*HEADER, *fields))
    for cell, (step, quantity, value) in rows:
        batch = "inf" if cell.batch_size is None else cell.batch_size
        optional = (getattr(cell, name, "") for name in OPTIONAL)
        further = (getattr(cell, name) for name in fields)
        made_of = cell.optimizer, cell.alpha, cell.dim, cell.num_items, batch, *optional
        table.writerow(map(escape_formula, (*made_of, cell.seed, step, quantity, value, *further)))
    folder.write(path, text.getvalue())


def escape_formula(value: object) -> object:
    """A text that no spreadsheet takes for a formula; other values as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
