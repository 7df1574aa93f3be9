"""What lies in a folder is neither imported, nor changes figures, nor is overwritten."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from memsolve.cli import run_command
from memsolve.engine.run import run
from memsolve.engine.storage.folder import FolderError, alone
from memsolve.importing import FOLDER, import_named
from memsolve.report import write_report
from memsolve.report.ownership import refuse_foreign
from memsolve.study import Grid, capacity, load

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "bench" / "results" / "alpha-1.5" / "capacity"
FIGURE = "capacity-against-d.png"

PLANTED = ("matplotlib", "numpy", "pandas", "pydantic", "rich", "signal", "torch", "typing")
"""Packages that are used or not, installed or not, and modules of Python that come late."""


def test_modules_and_settings_in_the_current_folder_are_nothing_to_the_command(
    tmp_path: Path,
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in PLANTED:
        (here / f"{name}.py").write_text("import sys\nsys.exit('this was planted')\n")
    (here / "matplotlibrc").write_bytes(b"font.size: 40\nno colon\n\xff\n")
    done = subprocess.run(
        [sys.executable, "-m", "memsolve", "report", str(RECORD), "--out", str(tmp_path / "page")],
        cwd=here,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    write_report([load(RECORD)], tmp_path / "again")
    drawn, again = ((tmp_path / name / FIGURE).read_bytes() for name in ("page", "again"))
    assert drawn == again


def test_figures_are_drawn_in_one_style(tmp_path: Path) -> None:
    for name, size in (("plain", 10), ("odd", 40)):
        with mpl.rc_context({"font.size": size, "lines.linewidth": 9, "axes.facecolor": "red"}):
            if name == "plain":
                mpl.rcdefaults()
            write_report([load(RECORD)], tmp_path / name)
    plain, odd = ((tmp_path / name / FIGURE).read_bytes() for name in ("plain", "odd"))
    assert plain == odd


LATE = """
def late():
    import mine_neighbour

    return mine_neighbour
"""


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The module path, which is put back in the end, as the modules are."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return sys.path


def test_the_current_folder_is_searched_last_and_for_what_is_named(
    path: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(path)
    (tmp_path / "mine_own.py").write_text(LATE)
    (tmp_path / "mine_neighbour.py").write_text("")
    (tmp_path / "colorsys.py").write_text("raise SystemExit('this was planted')\n")
    with pytest.raises(ModuleNotFoundError):
        import_named("mine_own")
    token = FOLDER.set(str(tmp_path))
    try:
        import_named("colorsys")  # of Python
        with pytest.raises(ModuleNotFoundError):
            import_named("mine_absent")
        assert path == before
        module = import_named("mine_own")
    finally:
        FOLDER.reset(token)
    assert path == [*before, str(tmp_path)]
    assert module.late().__file__ == str(tmp_path / "mine_neighbour.py")


def test_the_study_of_an_example_is_ours_and_its_neighbours_are_not(tmp_path: Path) -> None:
    record = ROOT / "bench" / "results" / "factual-recall"
    study, _ = load(record)
    assert study.name == "memsolve.examples.factual_recall.study"
    text = (record / "summary.json").read_text()
    (tmp_path / "summary.json").write_text(text.replace(study.name, "memsolve.problem.study", 1))
    with pytest.raises(ValueError, match="not part of memsolve"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        ({"dims": "many"}, "expected a list of whole numbers"),
        ({"seeds": None}, "expected a whole number of at least 1"),
        ({"alphas": {}}, "expected a list of finite numbers above 1"),
        ({"sweep": 3}, "expected values by setting"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_damaged_grid_in_a_summary_is_refused_in_a_line(
    grid: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((RECORD / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(content | {"grid": content["grid"] | grid}))
    assert run_command(["capacity", "--add", "sgd:lr=2", "--to", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not say how it was measured" in line
    assert reason in line


def test_a_summary_of_another_layout_is_refused_by_its_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((RECORD / "summary.json").read_text())
    del content["layout"], content["grid"]
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert run_command(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"was written by memsolve {content['environment']['memsolve']} in a layout" in line
    assert f"run the study again, whose command was: {content['command']}" in line


REPORT = ["report", str(RECORD), "--out"]
OLD_PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x10tEXtSoftware\0Matplotlib version3.10.0, "


def test_a_report_is_written_under_the_lock_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone(tmp_path):
        assert run_command([*REPORT, str(tmp_path)]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "is in use by another process; wait" in message
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []
    assert run_command([*REPORT, str(tmp_path)]) == 0


@pytest.mark.parametrize("name", ["report.html", FIGURE])
@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.write_text("<html>of someone else</html>"),
        lambda path: path.write_bytes(OLD_PICTURE),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        lambda path: os.mkfifo(path),
    ],
    ids=["text", "a figure", "a folder", "a link", "a pipe"],
)
def test_what_this_program_did_not_write_is_known(
    name: str, put: Callable[[Path], object], tmp_path: Path
) -> None:
    put(tmp_path / name)
    with pytest.raises(FolderError, match=r"by memsolve and would|expected a regular"):
        refuse_foreign(tmp_path, ["another", name])


@pytest.mark.parametrize("name", ["report.html", FIGURE])
def test_what_this_program_did_not_write_is_not_overwritten(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("of someone else")
    assert run_command([*REPORT, str(tmp_path)]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / name} was not written by memsolve" in message
    assert (tmp_path / name).read_text() == "of someone else"
    assert {path.name for path in tmp_path.iterdir()} <= {name, ".lock"}


def test_a_study_is_not_begun_where_its_report_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").write_text("of someone else")
    assert run_command(["capacity", "--out", str(tmp_path)]) == 2
    assert "was not written by memsolve" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_it_did_write_is_written_again(tmp_path: Path) -> None:
    old = '<!doctype html>\n<html lang="en">\n<head>\n<title>memsolve: capacity</title>'
    (tmp_path / "report.html").write_text(old)  # of version 0.2.0
    (tmp_path / FIGURE).write_bytes(OLD_PICTURE)
    for _ in range(2):
        assert run_command([*REPORT, str(tmp_path)]) == 0
        assert (
            '<meta name="generator" content="memsolve">' in (tmp_path / "report.html").read_text()
        )
    (tmp_path / "report.html").unlink()  # interrupted before it
    assert run_command([*REPORT, str(tmp_path)]) == 0
    run(capacity, Grid(["sgd"], dims=[8, 16], seeds=1), tmp_path / "study")
    (tmp_path / "study" / FIGURE).write_bytes(OLD_PICTURE)
    write_report([load(tmp_path / "study")], tmp_path / "study")


def test_a_number_that_is_too_large_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((RECORD / "summary.json").read_text())
    point = summary["fits"][0]["points"][0]
    point["recovered"] = [int("9" * 400)] * len(point["recovered"])
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert run_command(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "OverflowError" in line
