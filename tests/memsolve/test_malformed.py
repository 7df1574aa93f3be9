"""Malformed input: one line on the command line, a typed exception in Python, no traceback."""

import csv
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memsolve import InputError
from memsolve.cli import run_command
from memsolve.engine import Cell, prepare
from memsolve.engine.results import tidy
from memsolve.engine.results.tidy import Measured
from memsolve.study import Grid, RaceGrid, TrainingGrid

LINES = (Path(__file__).parent / "data" / "malformed.txt").read_text().splitlines()

FIELDS: dict[type[Grid], tuple[str, ...]] = {
    Grid: (
        *("optimizers", "alphas", "dims", "seeds", "num_items", "batch_sizes"),
        *("sweep", "device", "dtype"),
    ),
    TrainingGrid: ("steps", "schedules", "lrs", "gradient"),
    RaceGrid: ("target",),
}

WRONG: dict[str, Any] = {
    "text": "x",
    "fraction": 2.5,
    "truth": True,
    "object": object(),
    "nan": math.nan,
    "negative": -1,
    "zero": 0,
    "huge": 10**30,
    "bytes": b"x",
    "set": {3},
    "nested": [[]],
    "nothing inside": [None],
    "texts": ["x"],
    "array": np.array([8.5, 9]),
    "tensor": torch.ones(2),
    "complex": [1j],
    "class": int,
    "infinite": [math.inf],
}


def test_there_are_a_hundred_of_each() -> None:
    assert len(set(LINES)) >= 100
    assert len(WRONG) * sum(map(len, FIELDS.values())) >= 100


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_refused_in_one_line(
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memsolve.engine.execution.process.SUPPORTED", False)  # spares a process
    assert run_command(shlex.split(line)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("memsolve: error: ")
    assert len(line) >= 40  # the value, and what was expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, fields in FIELDS.items() for field in fields]
)
def test_a_grid_raises_a_typed_exception(kind: type[Grid], field: str, wrong: str) -> None:
    fields = {"dims": [8]} | {field: WRONG[wrong]}
    with pytest.raises(InputError) as error:
        prepare(kind(**fields))
    assert len(str(error.value).splitlines()) == 1


FORMULAS = "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", '=HYPERLINK("x";"y")'


def test_labels_are_no_formulas_to_a_spreadsheet(tmp_path: Path) -> None:
    cells = [Cell(label, 1.5, 8, 1024, None, 0) for label in (*FORMULAS, "sgd")]
    tidy.write(tmp_path / "points.csv", [(cell, Measured(1, "=loss", -0.5)) for cell in cells])
    with (tmp_path / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["optimizer"] for row in rows] == [*[f"'{label}" for label in FORMULAS], "sgd"]
    assert {(row["quantity"], row["value"]) for row in rows} == {("'=loss", "-0.5")}
