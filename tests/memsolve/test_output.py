"""Files are written before the terminal, and no text in a file controls the terminal."""

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
from memsolve.engine import Summary
from memsolve.engine.progress import bar
from memsolve.engine.results.load import write_summary
from memsolve.engine.run import run as run_study
from memsolve.output import CLOSED_PIPE
from memsolve.report.escape import escape_unprintable
from memsolve.study import Grid, capacity

SMALL = ["--optimizers", "sgd", "--dims", "8,16", "--seeds", "1"]
FILES = ("summary.json", "points.csv", "report.html", "capacity-against-d.png")


@pytest.fixture(scope="module")
def summary() -> Summary[Any]:
    return run_study(capacity, Grid(["sgd"], dims=[8, 16], seeds=1))


@pytest.fixture
def finished(summary: Summary[Any], tmp_path: Path) -> Path:
    """The folder of a finished study, which a test may edit."""
    (tmp_path / "finished").mkdir()
    write_summary(summary, tmp_path / "finished")
    return tmp_path / "finished"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command, with another standard output if need be."""

    def run(*words: str, stdout: TextIOWrapper | None = None) -> int:
        with monkeypatch.context() as changed:
            changed.setattr(sys, "argv", ["memsolve", *words])
            if stdout is not None:
                changed.setattr(sys, "stdout", stdout)
            with pytest.raises(SystemExit) as stop:
                main()
        return int(stop.value.code or 0)

    return run


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the summary in a folder."""
    path = folder / "summary.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_closed_pipe_loses_no_file(tmp_path: Path) -> None:
    """The command ends quietly, even while the interpreter shuts down."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "memsolve", "capacity", *SMALL, "--out", str(tmp_path)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == CLOSED_PIPE, done.stderr
    assert not done.stderr
    assert all((tmp_path / name).stat().st_size for name in FILES)


def test_a_full_standard_output_loses_no_file(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        assert run("capacity", *SMALL, "--out", str(tmp_path), stdout=full) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "memsolve: error: standard output cannot be written: No space left on device; the files "
        "of the command are complete"
    )
    assert all((tmp_path / name).stat().st_size for name in FILES)


def test_characters_that_the_terminal_lacks_are_replaced(
    run: Callable[..., int], finished: Path, tmp_path: Path
) -> None:
    edit(finished, lambda content: content["fits"][0].update(optimizer="λ-sgd"))
    edit(finished, lambda content: content.update(refused={"β": "β cannot be used"}))
    stdout = TextIOWrapper(BytesIO(), encoding="ascii")
    assert run("report", str(finished), "--out", str(tmp_path / "page"), stdout=stdout) == 0
    stdout.seek(0)
    printed = stdout.read()
    assert "?-sgd" in printed
    assert "left out: ? cannot be used" in printed
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
    def change(content: Any) -> None:
        (fit,) = content["fits"]
        texts = HOSTILE.values()
        content["fits"] = [{**fit, "optimizer": text, "note": text} for text in texts]
        content["remarks"] = content["refused"] = {text: text for text in texts}
        failure = {"alpha": 1.5, "dim": 8, "cells": 1}
        content["failed"] = [failure | {"optimizer": text, "reason": text} for text in texts]
        content["environment"] |= {text: text for text in texts}
        content["command"] = " ".join(texts)

    edit(finished, change)
    assert run("report", str(finished), "--out", str(tmp_path / "page")) == 0
    output = capsys.readouterr()
    page = (tmp_path / "page" / "report.html").read_text()
    for text in (output.out, output.err, page):
        assert all(character.isprintable() for character in text if character != "\n")
    for text in HOSTILE.values():
        assert f"left out: {escape_unprintable(text)}" in output.out
    assert "memsolve: all is well" not in output.out.splitlines()


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_file_reaches_the_terminal_by_an_error(
    name: str,
    run: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(finished, lambda content: content.update(study=f"{HOSTILE[name]}.study"))
    assert run("report", str(finished), "--out", str(tmp_path / "page")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert run("report", str(tmp_path / HOSTILE[name]), "--out", str(tmp_path / "page")) == 2
    message = capsys.readouterr().err
    assert all(character.isprintable() for character in message if character != "\n")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("torch.optim.AdamW:betas=(0.9, 0.95)", "torch.optim.AdamW:betas=(0.9, 0.95)"),
        ("Öl, 漢字, λ ≤ 1…", "Öl, 漢字, λ ≤ 1…"),
        ("a\tb\r\nc\x85d", "a b  c d"),
        ("\x1b[31m\x9b\u202e\u2069\udc80", "\\x1b[31m\\x9b\\u202e\\u2069\\udc80"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, escaped: str) -> None:
    assert escape_unprintable(text) == escaped
    assert escape_unprintable(escaped) == escaped
