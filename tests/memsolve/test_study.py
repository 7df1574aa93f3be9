"""Studies end to end: the laws' order, determinism, interruption, bad folders."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from memsolve import InputError
from memsolve.study import Grid, Summary, capacity, precision, saturation
from memsolve.study.grid import Cell
from memsolve.study.precision import EXACT
from memsolve.study.store import Store

SMALL = Grid(dims=(8, 16), seeds=2)
CELL = Cell("sgd", 1.5, 8, 1024, None, 0)


def test_capacity_orders_the_optimizers_as_the_laws_do() -> None:
    summary = capacity(Grid(dims=(32, 64), seeds=2))
    exponents = {fit.optimizer: fit.estimate.value for fit in summary.fits}
    assert None not in exponents.values()
    assert exponents["sgd"] < 0.8 < exponents["muon"]  # type: ignore[operator]
    assert exponents["sgd"] < 0.8 < exponents["newton"]  # type: ignore[operator]


def test_stock_muon_stores_less_than_the_exact_one() -> None:
    grid = Grid(("muon", "torch.optim.Muon"), alphas=(2.0,), dims=(128,), seeds=2)
    exact, stock = (np.mean(fit.points[0]["recovered"]) for fit in capacity(grid).fits)
    assert stock < 0.8 * exact


def test_precision_is_relative_to_the_exact_polar_factor() -> None:
    names = ("muon", "torch.optim.Muon", "muon:relative_damping=0.1")
    fits = precision(Grid(names, alphas=(2.0,), dims=(128,), seeds=2)).fits
    assert [fit.optimizer for fit in fits] == [EXACT, *names]
    exact, default, stock, damped = (fit.points[0]["share"] for fit in fits)
    assert exact == 1
    assert default == pytest.approx(1, abs=0.03)  # what the default schedule has to keep
    assert damped < stock < 0.8


def test_saturation_of_muon_lies_above_that_of_sgd() -> None:
    fits = saturation(Grid(("sgd", "muon"), dims=(32, 64), seeds=3)).fits
    sgd, muon = ([point["value"] for point in fit.points] for fit in fits)
    assert muon[1] > 4 * sgd[1]
    assert muon[1] > 2 * muon[0]


def test_the_same_grid_gives_the_same_summary(tmp_path: Path) -> None:
    for name in ("a", "b"):
        capacity(SMALL, tmp_path / name)
    first, second = ((tmp_path / name / "summary.json").read_bytes() for name in ("a", "b"))
    assert first == second
    loaded = Summary.load(tmp_path / "a")
    assert loaded.as_json() == json.loads(first)


def test_own_optimizers_take_part() -> None:
    summary = capacity(Grid({"mine": lambda params: torch.optim.SGD(params, lr=1)}, dims=(8, 16)))
    assert summary.fits[0].optimizer == "mine"
    assert summary.fits[0].theory is None


@pytest.mark.parametrize("torn", ["", '{"cell": {"optimizer": "sg', "[]\n", "\x00\x00\n"])
def test_a_torn_line_costs_one_cell(tmp_path: Path, torn: str) -> None:
    whole = saturation(SMALL, tmp_path / "whole")
    capacity(SMALL, tmp_path / "torn")
    complete = (tmp_path / "torn" / "summary.json").read_bytes()
    lines = (tmp_path / "torn" / "cells.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "torn" / "cells.jsonl").write_text("".join(lines[:-3]) + torn)
    capacity(SMALL, tmp_path / "torn", resume=True)
    assert (tmp_path / "torn" / "summary.json").read_bytes() == complete
    assert len((tmp_path / "torn" / "cells.jsonl").read_text().splitlines()) == len(lines)
    assert whole.study == "saturation"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_resumes_to_the_same_summary(
    tmp_path: Path, how: signal.Signals
) -> None:
    options = ["--dims", "16,32", "--seeds", "3"]
    command = [sys.executable, "-m", "memsolve", "saturation", *options]
    out = tmp_path / "interrupted"
    process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    cells = out / "cells.jsonl"
    deadline = time.monotonic() + 60
    while not (cells.exists() and cells.stat().st_size > 2000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    assert not (out / "summary.json").exists()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "run it again with --resume" in errors
    for folder, options in ((out, ["--resume"]), (tmp_path / "whole", [])):
        subprocess.run([*command, "--out", str(folder), *options], check=True, capture_output=True)
    assert (out / "summary.json").read_bytes() == (tmp_path / "whole/summary.json").read_bytes()


def test_folders_that_cannot_serve_are_told(tmp_path: Path) -> None:
    settings = {"study": "capacity", "seeds": 2}
    Store(tmp_path / "a", settings, resume=False).add(CELL, {"recovered": 1})
    with pytest.raises(InputError, match=r"holds results; add --resume"):
        Store(tmp_path / "a", settings, resume=False)
    with pytest.raises(InputError, match=r"other settings: seeds is 2 there and 3 now"):
        Store(tmp_path / "a", settings | {"seeds": 3}, resume=True)
    assert Store(tmp_path / "a", settings, resume=True).results == {CELL: {"recovered": 1}}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used for results"):
        Store(tmp_path / "file" / "b", settings, resume=False)
    with pytest.raises(InputError, match=r"no summary.json"):
        Summary.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alphas": ()}, r"alphas is \(\); expected a list of finite numbers above 1"),
        ({"alphas": (1.0,)}, "alphas holds 1.0"),
        ({"alphas": (float("nan"),)}, "alphas holds nan"),
        ({"dims": (1,)}, "dims holds 1; expected whole numbers of at least 2"),
        ({"dims": (64.5,)}, "dims holds 64.5"),
        ({"dims": (64, 64)}, "expected each value once"),
        ({"dims": 64}, "dims is 64; expected a list"),
        ({"seeds": 0}, "seeds is 0"),
        ({"num_items": 64}, "num_items is 64; expected a whole number above"),
        ({"batch_sizes": (0,)}, "batch_sizes holds 0"),
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16'"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"optimizers": ("adam",)}, "optimizer 'adam' is unknown"),
    ],
)
def test_grids_that_mean_nothing_are_told(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(**arguments)  # type: ignore[arg-type]
