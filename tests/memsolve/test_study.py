"""Studies end to end: the laws' order, determinism, interruption, bad folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memsolve_kernels import matrix_sign

from memsolve import AssociativeMemory, InputError
from memsolve.cli import run_command
from memsolve.engine import Cell, prepare
from memsolve.engine.run import run
from memsolve.engine.storage.lines import to_line
from memsolve.engine.storage.store import Store
from memsolve.environment import environment
from memsolve.optimizers.choices import Choice
from memsolve.study import Grid, TrainingGrid, capacity, load, precision, saturation
from memsolve.study.one_step.base import StepResult, draw_batch
from memsolve.study.one_step.precision import EXACT

SMALL = Grid(("sgd", "muon"), dims=(8, 16), seeds=2)
CELL = Cell("sgd", 1.5, 8, 1024, None, 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of `SMALL`, which no test changes."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    run(capacity, SMALL, folder)
    return folder


@pytest.fixture
def copy_of_finished(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_capacity_orders_the_optimizers_as_the_laws_do() -> None:
    summary = run(capacity, Grid(dims=(32, 64), seeds=2))
    exponents = {fit.optimizer: fit.estimate.value for fit in summary.fits}
    assert None not in exponents.values()
    assert exponents["sgd"] < 0.8 < exponents["muon"]  # type: ignore[operator]
    assert exponents["sgd"] < 0.8 < exponents["newton"]  # type: ignore[operator]


def test_stock_muon_stores_less_than_the_exact_one() -> None:
    grid = Grid(("muon", "torch.optim.Muon"), alphas=(2.0,), dims=(128,), seeds=2)
    exact, stock = (np.mean(fit.points[0].recovered) for fit in run(capacity, grid).fits)
    assert stock < 0.8 * exact


def test_precision_is_relative_to_the_exact_polar_factor() -> None:
    names = ("muon", "torch.optim.Muon", "muon:relative_damping=0.1")
    fits = run(precision, Grid(names, alphas=(2.0,), dims=(128,), seeds=2)).fits
    assert [fit.optimizer for fit in fits] == [EXACT, *names]
    exact, default, stock, damped = (float(fit.points[0].share or 0) for fit in fits)
    assert exact == 1
    assert default == pytest.approx(1, abs=0.03)  # what the default schedule has to keep
    assert damped < stock < 0.8


def test_saturation_of_muon_lies_above_that_of_sgd() -> None:
    fits = run(saturation, Grid(("sgd", "muon"), dims=(32, 64), seeds=3)).fits
    sgd, muon = (np.array([point.value for point in fit.points], float) for fit in fits)
    assert muon[1] > 4 * sgd[1]
    assert muon[1] > 2 * muon[0]


def test_the_same_grid_gives_the_same_summary(finished: Path, tmp_path: Path) -> None:
    run(capacity, SMALL, tmp_path)
    first, second = (folder / "summary.json" for folder in (finished, tmp_path))
    assert first.read_bytes() == second.read_bytes()
    study, loaded = load(finished)
    assert study is capacity
    assert loaded.as_json() == json.loads(first.read_bytes())


def test_own_optimizers_take_part() -> None:
    choices: dict[str, Choice] = {
        "mine": lambda params: torch.optim.SGD(params, lr=1),
        "muon": torch.optim.RMSprop,
    }
    mine, other = run(capacity, Grid(choices, dims=(8, 16), seeds=2)).fits
    assert (mine.optimizer, other.optimizer) == ("mine", "muon")
    assert mine.law is not None  # it is SGD, whatever it is called
    assert mine.law.exponent == pytest.approx(1 / 3)
    assert other.law is None


@pytest.mark.parametrize("torn", ["", '{"cell": {"optimizer": "sg', "[]\n", "\x00\x00\n", "\xff"])
def test_a_torn_line_costs_one_cell(copy_of_finished: Path, torn: str) -> None:
    summary, cells = (copy_of_finished / name for name in ("summary.json", "cells.jsonl"))
    complete, lines = summary.read_bytes(), cells.read_bytes().splitlines(keepends=True)
    cells.write_bytes(b"".join(lines[:-3]) + torn.encode("latin-1"))
    run(capacity, SMALL, copy_of_finished, resume=True)
    assert summary.read_bytes() == complete
    assert len(cells.read_bytes().splitlines()) == len(lines)


def test_finished_cells_are_not_run_again(copy_of_finished: Path) -> None:
    cells = copy_of_finished / "cells.jsonl"
    lines = cells.read_text().splitlines()
    entry = json.loads(lines[-1])
    entry["result"]["recovered"] = 10**6
    del entry["crc"]
    cells.write_text("\n".join([*lines[:-1], to_line(entry)]))
    fits = run(capacity, SMALL, copy_of_finished, resume=True).fits
    assert max(max(point.recovered) for fit in fits for point in fit.points) == 10**6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_size", [40, None])
def test_a_cell_is_one_evaluated_step(batch_size: int | None, dtype: torch.dtype) -> None:
    sizes = (40,) if batch_size else None
    grid = Grid(dims=(16,), seeds=3, batch_sizes=sizes, device="cpu", dtype=str(dtype)[6:])
    study = saturation if batch_size else capacity
    results: dict[Cell, StepResult] = {}
    for seed in range(3):
        cells = [Cell(name, 1.5, 16, 2048, batch_size, seed) for name in grid.labels]
        results |= dict(zip(cells, study.measure(grid, cells), strict=True))
        memory = AssociativeMemory(2048, 16, 1.5, seed=seed, dtype=dtype)
        batch = memory.population() if batch_size is None else draw_batch(memory, batch_size, seed)
        gradient = memory.gradient_at_zero(batch)
        outputs, inputs = memory.curvature(batch)
        damped = inputs + 1e-6 * inputs.diagonal().mean() * torch.eye(16, dtype=dtype)
        steps = {
            "sgd": gradient,
            "muon": matrix_sign(gradient),
            "newton": torch.linalg.solve(damped, torch.linalg.solve(outputs, gradient), left=False),
        }
        for name, step in steps.items():
            recall = memory.recall(-step, batch.items)
            expected = StepResult(recall.count, recall.top_rank())
            assert results[Cell(name, 1.5, 16, 2048, batch_size, seed)] == expected


def test_batches_differ_by_seed_and_size() -> None:
    memory = AssociativeMemory(500, 4, 1.5, seed=0)
    batches = [draw_batch(memory, size, seed) for size in (30, 31) for seed in (0, 1)]
    distinct = {tuple(batch.items.tolist()) for batch in batches}
    assert len(distinct) == 4
    again = draw_batch(memory, 30, 0)
    assert torch.equal(again.items, batches[0].items)


INTERRUPTED = ["saturation", "--optimizers", "sgd,muon", "--dims", "16,32", "--seeds", "3"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The summary of `INTERRUPTED`, run to its end."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run_command([*INTERRUPTED, "--out", str(folder)]) == 0
    return (folder / "summary.json").read_bytes()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_resumes_to_the_same_summary(
    tmp_path: Path, how: signal.Signals, uninterrupted: bytes
) -> None:
    out = tmp_path / "interrupted"
    command = [sys.executable, "-m", "memsolve", *INTERRUPTED, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    cells = out / "cells.jsonl"
    deadline = time.monotonic() + 60
    while not (cells.exists() and cells.stat().st_size > 3000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    assert not (out / "summary.json").exists()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "goes on with --resume" in errors
    assert run_command([*INTERRUPTED, "--out", str(out), "--resume"]) == 0
    assert (out / "summary.json").read_bytes() == uninterrupted


def test_another_environment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(capacity, Grid({"mine": "sgd"}, dims=(8, 16), seeds=1), tmp_path)
    monkeypatch.setattr(torch, "__version__", "0.0")
    with pytest.raises(InputError, match=r"torch is .* there and '0.0' now"):
        run(capacity, Grid({"mine": "sgd"}, dims=(8, 16), seeds=1), tmp_path, resume=True)


def test_batches_of_astronomic_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"d\^\(alpha \+ 1/2\)"):
        run(saturation, Grid(alphas=(9.0,), dims=(256,)))


def store(folder: Path, settings: dict[str, object], *, resume: bool) -> Store[Cell, StepResult]:
    folder.mkdir(exist_ok=True)
    return Store(folder, settings, Cell, StepResult, resume=resume)


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    settings: dict[str, object] = {"study": "capacity", "dtype": "float64"}
    here = environment("cpu")
    store(tmp_path / "a", settings, resume=False)
    store(tmp_path / "a", settings, resume=False).add(CELL, StepResult(1, 1), here)  # no cells yet
    with pytest.raises(InputError, match=r"holds results; add --resume"):
        store(tmp_path / "a", settings, resume=False)
    with pytest.raises(InputError, match=r"other settings: dtype is 'float64' there and 'x' now"):
        store(tmp_path / "a", settings | {"dtype": "x"}, resume=True)
    again = store(tmp_path / "a", settings, resume=True)
    assert again.find(CELL, here) == StepResult(1, 1)
    assert again.find(CELL, here | {"source": "edited"}) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used for results"):
        run(capacity, SMALL, tmp_path / "file" / "b")
    with pytest.raises(InputError, match=r"no summary.json"):
        load(tmp_path)


def test_each_result_carries_the_environment_that_made_it(tmp_path: Path) -> None:
    settings: dict[str, object] = {"study": "capacity"}
    cells = [CELL, Cell("muon", 1.5, 8, 1024, None, 0)]
    environments = [environment("cpu"), environment("cpu") | {"threads": 64}]
    for cell, made_in in zip(cells, environments, strict=True):  # as two workers would
        store(tmp_path, settings, resume=True).add(cell, StepResult(1, 1), made_in)
    again = store(tmp_path, settings, resume=True)
    for cell, here, there in zip(cells, environments, environments[::-1], strict=True):
        assert again.find(cell, here) == StepResult(1, 1)
        assert again.find(cell, there) is None


def test_results_of_an_older_layout_are_refused_by_their_version(tmp_path: Path) -> None:
    head = {"settings": {"study": "capacity", "seeds": 2, "memsolve": "0.1.0", "torch": "2.13.0"}}
    cell = {"cell": vars(CELL), "result": {"recovered": 7, "top_rank": 7}}
    lines = "".join(json.dumps(line) + "\n" for line in (head, cell))
    (tmp_path / "cells.jsonl").write_text(lines)
    for resume in (False, True):
        with pytest.raises(InputError, match=r"results of memsolve 0\.1\.0 in a layout"):
            run(capacity, SMALL, tmp_path, resume=resume)
    assert (tmp_path / "cells.jsonl").read_text() == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alphas": ()}, r"alphas is \(\); expected a list of finite numbers above 1"),
        ({"alphas": (1.0,)}, "alphas holds 1.0"),
        ({"alphas": (float("nan"),)}, "alphas holds nan"),
        ({"alphas": ("1.5",)}, "alphas holds '1.5'"),
        ({"alphas": (400.0,)}, "underflows"),
        ({"batch_sizes": (10**20,)}, "batch_sizes holds 100000000000000000000"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"dims": (1,)}, "dims holds 1; expected whole numbers from 2 to"),
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
def test_meaningless_grids_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(Grid(**arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("study", "grid", "options", "message"),
    [
        ("capacity", None, {}, "study is 'capacity'; expected a study"),
        (
            capacity,
            TrainingGrid(["sgd"], dims=(8,)),
            {},
            "grid is a TrainingGrid; capacity takes a Grid",
        ),
        (capacity, "muon", {}, "grid is a str; capacity takes a Grid"),
        (capacity, SMALL, {"resume": True}, "give it as out"),
    ],
    ids=["name", "training", "no grid", "resume"],
)
def test_arguments_of_run_that_cannot_be_used_are_refused(
    study: Any, grid: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(study, grid, **options)


def test_numbers_of_numpy_serve_as_those_of_python(tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"seeds": np.int64(1), "num_items": np.int64(64)}
    summary = run(capacity, Grid(["sgd"], dims=(8, 16), **numbers), tmp_path)
    assert summary == run(capacity, Grid(["sgd"], dims=(8, 16), seeds=1, num_items=64))
