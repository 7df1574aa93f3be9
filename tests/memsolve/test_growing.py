"""A study that grows: what made a result is part of its name, so that only what is new runs."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from memsolve import InputError
from memsolve.engine import Grid
from memsolve.engine.results.merge import differences, merge
from memsolve.engine.run import run
from memsolve.report import notes, write_report
from memsolve.study import TrainingGrid, capacity, dynamics, load

SMALL: dict[str, Any] = {"dims": (8, 16), "seeds": 2}

MODULE = """
import torch

POWER = 1.0

def scale(param):
    return 1.0

class Mine(torch.optim.SGD):
    def step(self, closure=None):
        (param,) = self.param_groups[0]["params"]
        param.data.sub_(scale(param) * param.grad.sign() * param.grad.abs() ** POWER)

class Other(torch.optim.SGD):
    pass

def make(params, lr=1.0):
    return Other(params, lr=lr)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    file = tmp_path / "mine.py"
    file.write_text(MODULE)
    importlib.import_module("mine")  # what is imported here is measured in this process
    return file


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    for name in ("mine", "helpers_of_mine"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    importlib.import_module("mine")


def ran(folder: Path, grid: Grid, *, resume: bool = True) -> set[tuple[str, float, int, int]]:
    """Which cells a study measures."""

    def cells() -> list[str]:
        file = folder / "cells.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if '"cell"' in line]

    before = cells()
    run(capacity, grid, folder, resume=resume)
    new = [json.loads(line)["cell"] for line in cells()[len(before) :]]
    return {(each["optimizer"], each["alpha"], each["dim"], each["seed"]) for each in new}


def test_only_new_cells_run(tmp_path: Path) -> None:
    assert len(ran(tmp_path, Grid(["sgd"], **SMALL), resume=False)) == 4
    assert not ran(tmp_path, Grid(["sgd"], **SMALL))
    assert ran(tmp_path, Grid(["sgd", "muon"], **SMALL)) == {
        ("muon", 1.5, dim, seed) for dim in (8, 16) for seed in (0, 1)
    }
    more = Grid(["sgd", "muon"], dims=(8, 16), seeds=3)
    assert ran(tmp_path, more) == {
        (name, 1.5, dim, 2) for name in ("sgd", "muon") for dim in (8, 16)
    }
    assert ran(tmp_path, Grid(["sgd"], dims=(8, 16, 32), seeds=1)) == {("sgd", 1.5, 32, 0)}
    assert ran(tmp_path, Grid(["sgd"], alphas=(1.5, 2), dims=(8,), seeds=1)) == {("sgd", 2, 8, 0)}
    grown = run(capacity, more, tmp_path, resume=True)
    assert grown == run(capacity, more)


def test_an_edited_optimizer_runs_alone(mine: Path, tmp_path: Path) -> None:
    folder, grid = tmp_path / "out", Grid(["mine.Mine", "mine.Other", "sgd"], **SMALL)
    ran(folder, grid, resume=False)
    before = {fit.optimizer: fit for fit in load(folder)[1].fits}
    edit(mine, "POWER = 1.0", "POWER = 0.5")
    assert {cell[0] for cell in ran(folder, grid)} == {"mine.Mine"}
    after = {fit.optimizer: fit for fit in load(folder)[1].fits}
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["mine.Mine"]
    edit(mine, "    pass", "    pass  # nothing else")
    assert not ran(folder, grid)
    edit(mine, "POWER = 0.5", "POWER = 1.0")
    assert not ran(folder, grid)  # what the first version made is still there
    assert {fit.optimizer: fit for fit in load(folder)[1].fits} == before


def test_an_edited_helper_beside_the_module_runs_its_optimizers(mine: Path, tmp_path: Path) -> None:
    helpers = mine.with_name("helpers_of_mine.py")
    helpers.write_text("def scale(param):\n    return 1.0\n\ndef other():\n    return 1.0\n")
    edit(mine, "def scale(param):\n    return 1.0", "from helpers_of_mine import scale")
    folder, grid = tmp_path / "out", Grid(["mine.Mine", "mine.Other"], dims=(8, 16), seeds=1)
    ran(folder, grid, resume=False)
    edit(helpers, "def other():\n    return 1.0", "def other():\n    return 2.0  # for the plots")
    assert not ran(folder, grid)
    edit(helpers, "(param):\n    return 1.0", "(param):\n    return 2.0")
    assert {cell[0] for cell in ran(folder, grid)} == {"mine.Mine"}
    assert not ran(folder, grid)


def test_what_cannot_be_identified_runs_again_and_a_note_says_so(tmp_path: Path) -> None:
    numbers = (number for number in range(0))

    def make(params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=1.0 + 0 * len(list(numbers)))

    grid = Grid({"mine": make, "sgd": "sgd"}, dims=(8, 16), seeds=1)
    ran(tmp_path, grid, resume=False)
    assert {cell[0] for cell in ran(tmp_path, grid)} == {"mine"}
    (note,) = notes(load(tmp_path)[1])
    assert "measured anew in every run, even with --resume: mine" in note
    assert "an object of builtins.generator" in note


def test_steps_that_change_a_value_change_no_identity(mine: Path, tmp_path: Path) -> None:
    """Also of another optimizer of the grid."""
    edit(mine, "def scale(param):\n", "SEEN = []\ndef scale(param):\n    SEEN.append(1)\n")
    folder = tmp_path / "out"
    ran(folder, Grid(["mine.Mine:momentum=0.5"], dims=(8, 16), seeds=1), resume=False)
    sys.modules.pop("mine")
    importlib.import_module("mine")  # as in another process
    more = Grid(["mine.Mine", "mine.Mine:momentum=0.5"], dims=(8, 16), seeds=1)
    assert {cell[0] for cell in ran(folder, more)} == {"mine.Mine"}


def test_settings_that_cells_do_not_carry_are_refused(tmp_path: Path) -> None:
    grid = TrainingGrid(["sgd"], dims=(8,), seeds=1, steps=2, schedules=("constant",))
    run(dynamics, grid, tmp_path)
    longer = TrainingGrid(["sgd"], dims=(8,), seeds=1, steps=3, schedules=("constant",))
    with pytest.raises(InputError, match="steps is 2 there and 3 now"):
        run(dynamics, longer, tmp_path, resume=True)


def test_studies_of_a_kind_merge_into_one_ranking(tmp_path: Path) -> None:
    for name, optimizers in (("a", ["sgd", "torch.optim.AdamW"]), ("b", ["muon", "sgd"])):
        run(capacity, Grid(optimizers, **SMALL), tmp_path / name)
    run(capacity, Grid(["sgd"], dims=(8, 16), seeds=3), tmp_path / "c")
    loaded = [(tmp_path / name, *load(tmp_path / name)) for name in ("a", "b", "c")]
    ((study, one),) = merge(loaded)
    assert study is capacity
    assert one.fits[0].optimizer == "muon"
    assert {fit.optimizer for fit in one.fits} == {"muon", "sgd", "sgd (c)", "torch.optim.AdamW"}
    means = [fit.points[-1].mean for fit in one.fits]
    assert means == sorted(means, reverse=True)
    assert one.remarks == {"torch.optim.AdamW": "equals the sign"}


def test_settings_that_differ_are_told_beside_the_ranking(tmp_path: Path) -> None:
    for name, steps, seeds in (("a", 2, 1), ("b", 3, 2), ("c", 2, 1)):
        once: dict[str, Any] = {"schedules": ("constant",), "lrs": (1.0,)}
        grid = TrainingGrid(["sgd"], dims=(8,), seeds=seeds, steps=steps, **once)
        run(dynamics, grid, tmp_path / name)
    loaded = [(tmp_path / name, *load(tmp_path / name)) for name in ("a", "b", "c")]
    ((_, alike),) = merge([loaded[0], loaded[2]])
    assert alike.differences == ""
    ((study, one),) = merge(loaded[:2])
    message = "settings differ (a / b): steps 2 / 3; seeds 1 / 2"
    assert notes(one) == [message]
    assert message in write_report([(study, one)], tmp_path / "page").read_text()


def test_settings_of_grids_differ_by_name_whether_optimizers_are_named_or_given() -> None:
    named = TrainingGrid(["muon"], dims=(8, 16), lrs=(0.1, 1), num_items=64)
    given = TrainingGrid({"mine": torch.optim.SGD}, dims=(8, 16), lrs=(0.1, 1), dtype="float32")
    commands = [grid.command("dynamics") for grid in (named, given)]
    assert [command.startswith("memsolve dynamics") for command in commands] == [True, False]
    grids = [(Path("a"), named.as_json()), (Path("b"), given.as_json())]
    text = "settings differ (a / b): dtype float64 / float32; num-items 64 / default"
    assert differences(dynamics, grids) == text


@pytest.mark.parametrize(
    "grid",
    [
        TrainingGrid(
            ["muon"], dims=(8, 16), lrs=(0.1, 1), num_items=64, sweep={"momentum": [0, 1]}
        ),
        TrainingGrid({"mine": "sgd:lr=1"}, alphas=[1.2, 2], batch_sizes=(4, 1), gradient="exact"),
    ],
    ids=["names", "labels"],
)
def test_a_grid_is_its_json_and_back(grid: TrainingGrid) -> None:
    assert TrainingGrid.from_json(json.loads(json.dumps(grid.as_json()))) == grid
