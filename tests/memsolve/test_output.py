"""Files first, terminal after: what a terminal cannot do, or is made to do, costs no file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from memsolve.__main__ import main
from memsolve.engine.progress import bar
from memsolve.engine.results.load import write_summary
from memsolve.engine.run import run as run_study
from memsolve.output import CLOSED_PIPE
from memsolve.report.escape import escape_unprintable
from memsolve.study import Grid, capacity

SMALL = ["--optimizers", "sgd", "--dims", "8,16", "--seeds", "1"]
FILES = ("summary.json", "points.csv", "report.html", "capacity-against-d.png")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    (tmp_path / "finished").mkdir()
    write_summary(run_study(capacity, Grid(["sgd"], dims=[8, 16], seeds=1)), tmp_path / "finished")
    return tmp_path / "finished"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command, with a standard output of its own if need be."""

    def run(*words: str, stdout: TextIOWrapper | None = None) -> int:
        with monkeypatch.context() as changed:
            changed.setattr(sys, "argv", ["memsolve", *words])
            if stdout is not None:
                changed.setattr(sys, "stdout", stdout)
            with pytest.raises(SystemExit) as stop:
                main()
        return int(stop.value.code or 0)

    return run


def edited(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the summary in a folder."""
    path = folder / "summary.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_a_reader_who_leaves_costs_no_file(tmp_path: Path) -> None:
    """Until the interpreter has shut down."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "memsolve", "capacity", *SMALL, "--out", str(tmp_path)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == CLOSED_PIPE, done.stderr
    assert not done.stderr
    assert all((tmp_path / name).stat().st_size for name in FILES)


def test_a_full_standard_output_costs_no_file(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        assert run("capacity", *SMALL, "--out", str(tmp_path), stdout=full) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told == (
        "memsolve: error: standard output cannot be written: No space left on device; the files "
        "of the command are complete"
    )
    assert all((tmp_path / name).stat().st_size for name in FILES)


def test_what_the_terminal_cannot_show_is_replaced(
    run: Callable[..., int], finished: Path, tmp_path: Path
) -> None:
    edited(finished, lambda found: found["fits"][0].update(optimizer="λ-sgd"))
    edited(finished, lambda found: found.update(refused={"β": "β cannot be used"}))
    stdout = TextIOWrapper(BytesIO(), encoding="ascii")
    assert run("report", str(finished), "--out", str(tmp_path / "page"), stdout=stdout) == 0
    stdout.seek(0)
    shown = stdout.read()
    assert "?-sgd" in shown
    assert "left out: ? cannot be used" in shown
    assert "λ-sgd" in (tmp_path / "page" / "report.html").read_text()


def test_progress_is_for_terminals_and_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def show() -> None:
        with bar("study", 2, 0) as advance:
            advance("study [red]d=8")

    show()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", stderr := StringIO())
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    show()
    assert "study [red]d=8" in stderr.getvalue()
    assert not capsys.readouterr().out


HOSTILE = {
    "escape": "\x1b]0;title\x07\x1b[2J",
    "C1": "\x9b2J\x9d0;title\x9c",
    "backspaces": "\b\b\b\x7f",
    "lines": "\rmemsolve: all is well\n\x85\u2028",
    "bidirectional": "\u202egds\u202c\u2066x\u2069\u200f\u200e",
    "no width": "s\u200bg\u2060d\ufeff\u00ad",
    "markup": "[red]x[/red][link=file:///x]",
    "half a pair": "\udc9b",
}


def test_nothing_in_a_file_reaches_the_terminal_or_the_page_as_a_command(
    run: Callable[..., int], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(found: Any) -> None:
        (fit,) = found["fits"]
        every = HOSTILE.values()
        found["fits"] = [{**fit, "optimizer": given, "note": given} for given in every]
        found["remarks"] = found["refused"] = {given: given for given in every}
        failure = {"alpha": 1.5, "dim": 8, "cells": 1}
        found["failed"] = [failure | {"optimizer": given, "reason": given} for given in every]
        found["environment"] |= {given: given for given in every}
        found["command"] = " ".join(every)

    edited(finished, change)
    assert run("report", str(finished), "--out", str(tmp_path / "page")) == 0
    said = capsys.readouterr()
    page = (tmp_path / "page" / "report.html").read_text()
    for text in (said.out, said.err, page):
        assert all(character.isprintable() for character in text if character != "\n")
    for given in HOSTILE.values():
        assert f"left out: {escape_unprintable(given)}" in said.out
    assert "memsolve: all is well" not in said.out.splitlines()


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_file_reaches_the_terminal_by_an_error(
    name: str,
    run: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edited(finished, lambda found: found.update(study=f"{HOSTILE[name]}.study"))
    assert run("report", str(finished), "--out", str(tmp_path / "page")) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.isprintable()
    assert run("report", str(tmp_path / HOSTILE[name]), "--out", str(tmp_path / "page")) == 2
    told = capsys.readouterr().err
    assert all(character.isprintable() for character in told if character != "\n")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("torch.optim.AdamW:betas=(0.9, 0.95)", "torch.optim.AdamW:betas=(0.9, 0.95)"),
        ("Öl, 漢字, λ ≤ 1…", "Öl, 漢字, λ ≤ 1…"),
        ("a\tb\r\nc\x85d", "a b  c d"),
        ("\x1b[31m\x9b\u202e\u2069\udc80", "\\x1b[31m\\x9b\\u202e\\u2069\\udc80"),
    ],
)
def test_printable(given: str, shown: str) -> None:
    assert escape_unprintable(given) == shown
    assert escape_unprintable(shown) == shown
