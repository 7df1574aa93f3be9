"""A study of one's own, in a module of one's own, goes all the way without touching the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memsolve import InputError, run
from memsolve.cli import run_command
from memsolve.study import find, load

TOY = '''
"""Norm of the population gradient at zero, against d."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from memsolve import AssociativeMemory
from memsolve.engine import Cell, Fit, Grid, Point, Study, option
from memsolve.engine.results.estimate import power_law_exponent


@dataclass(frozen=True)
class Norms(Point):
    values: list[float]


@dataclass(frozen=True)
class Norm:
    value: float


@dataclass(frozen=True)
class Powers(Grid):
    power: float = option(1.0, "--power", float, "Of the norm.", many=False)


class NormStudy(Study[Powers, Cell, Norm, Norms]):
    name = "toy.norm"
    question = "Norm of the gradient."
    quantity = "norm of the gradient"
    definition = "The Frobenius norm of the population gradient at zero."
    grid = Powers(("sgd",), dims=(4, 8, 16), seeds=3)
    cell, result, point = Cell, Norm, Norms

    def measure(self, grid, cells):
        for cell in cells:
            memory = AssociativeMemory(cell.num_items, cell.dim, cell.alpha, seed=cell.seed)
            norm = memory.gradient_at_zero(memory.population()).norm()
            yield Norm(float(norm) ** grid.power)
            pause()

    def fits(self, grid, results):
        def fit(name, alpha):
            points = [
                Norms(dim, [r.value for c, r in results.items() if c.dim == dim])
                for dim in grid.dims
            ]
            samples = [np.array(point.values) for point in points]
            means = [lambda draws: draws.mean(1)] * len(grid.dims)
            slope = power_law_exponent(grid.dims, samples, means)
            return Fit(name, alpha, "norm", slope, None, points)

        return [fit(name, alpha) for alpha in grid.alphas for name in grid.labels]

    def value(self, point):
        return f"{np.mean(point.values):.3f}"

    def figures(self, summary):
        figure = Figure()
        axes = figure.subplots()
        for fit in summary.fits:
            axes.plot([p.dim for p in fit.points], [np.mean(p.values) for p in fit.points])
        return {"norms": figure}


def pause():
    """Where the test interrupts the first run."""
    import os, pathlib, signal

    flag = pathlib.Path("interrupt")
    if flag.exists() and len(pathlib.Path("out/cells.jsonl").read_text().splitlines()) > 4:
        flag.unlink()
        os.kill(os.getpid(), signal.SIGINT)


norm = NormStudy()
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path


def memsolve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(path).resolve()) for path in sys.path if path]
    return subprocess.run(
        [sys.executable, "-m", "memsolve", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )


def test_an_optimizer_in_the_current_folder_is_found_in_its_process(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("LR = 1.0\n")
    (tmp_path / "mine.py").write_text(
        "import torch\n\ndef make(params):\n"
        "    import neighbour\n    return torch.optim.SGD(params, lr=neighbour.LR)\n"
    )
    grid = "--optimizers", "mine:make", "--dims", "8,16", "--seeds", "1", "--num-items", "64"
    done = memsolve(tmp_path, "capacity", *grid, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "mine:make" in done.stdout


def test_from_command_line_to_report_with_an_interruption(folder: Path) -> None:
    (folder / "interrupt").touch()
    stopped = memsolve(folder, "toy.norm", "--power", "2", "--out", "out")
    assert stopped.returncode == 130
    assert "goes on with --resume" in stopped.stderr
    assert not (folder / "out/summary.json").exists()
    assert 2 < len((folder / "out/cells.jsonl").read_text().splitlines()) < 11

    resumed = memsolve(folder, "toy.norm", "--power", "2", "--out", "out", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "toy.norm: norm of the gradient" in resumed.stdout
    whole = memsolve(folder, "toy.norm", "--power", "2", "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    summary = (folder / "out/summary.json").read_bytes()
    assert summary == (folder / "whole/summary.json").read_bytes()
    assert "--power 2.0" in json.loads(summary)["command"]

    with (folder / "toy.py").open("a") as module:
        module.write('print("imported")\n')
    refused = memsolve(folder, "report", "out", "--out", "page")
    assert refused.returncode == 2
    assert "study 'toy.norm', which is not part of memsolve; if you trust" in refused.stderr
    assert "module, name it by --study" in refused.stderr
    assert not refused.stdout
    assert not (folder / "page").exists()

    report = memsolve(folder, "report", "out", "--study", "toy.norm", "--out", "page")
    assert report.returncode == 0, report.stderr
    page = (folder / "page/report.html").read_text()
    assert "The Frobenius norm of the population gradient at zero." in page
    assert 'alt="norms"' in page  # its curves have no labels
    assert (folder / "page/norms.png").stat().st_size > 0


def test_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    study = find("toy.norm")
    summary = run(study, out=folder / "out")
    (fit,) = summary.fits
    assert fit.points[0].values == [
        pytest.approx(value) for value in load(folder / "out", [study])[1].fits[0].points[0].values
    ]
    with pytest.raises(InputError, match="not part of memsolve; if you trust its module"):
        load(folder / "out")
    monkeypatch.delitem(sys.modules, "toy")


def test_what_is_no_study_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "other.py").write_text("norm = 3")
    with pytest.raises(InputError, match=r"study 'norms' is unknown; expected one of .*capacity, "):
        find("norms")
    with pytest.raises(InputError, match=r"study 'nowhere.norm' does not import"):
        find("nowhere.norm")
    with pytest.raises(InputError, match=r"'other.norm' is 3; expected a memsolve.engine.Study"):
        find("other.norm")
    assert run_command(["nowhere.norm", "--out", str(folder / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
