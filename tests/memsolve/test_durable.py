"""What disks, other processes and impatient people do to results."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memsolve import InputError
from memsolve.__main__ import main
from memsolve.cli import run_command
from memsolve.engine.run import run
from memsolve.engine.storage import folder
from memsolve.engine.storage.folder import alone, write
from memsolve.engine.storage.lines import from_line, to_line
from memsolve.study import Grid, capacity, load

SMALL = Grid(["sgd", "muon"], dims=(8, 16), seeds=2)
RESUME = ["capacity", "--optimizers", "sgd,muon", "--dims", "8,16", "--seeds", "2", "--resume"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(capacity, SMALL, folder)
    return folder


def damaged(finished: Path, folder: Path, name: str, damage: Any) -> None:
    for each in ("cells.jsonl", "summary.json"):
        (folder / each).write_bytes((finished / each).read_bytes())
    (folder / name).write_bytes(damage((folder / name).read_bytes()))


def line(number: int, change: Any) -> Any:
    """The damage of one line."""

    def damage(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        lines[number] = change(lines[number])
        return b"".join(lines)

    return damage


def signed(change: Any) -> Any:
    """The change of what a line holds, under a checksum that is right."""

    def damage(text: bytes) -> bytes:
        found = from_line(text)
        assert found is not None
        del found.fields["crc"]
        change(found.fields)
        return to_line(found.fields).encode()

    return damage


def field(place: str, name: str, value: Any) -> Any:
    """The damage of one field of the last line."""
    return line(-1, signed(lambda entry: entry[place].update({name: value})))


CELLS = {
    "last line torn": lambda content: content[:-40],
    "middle line torn": line(4, lambda text: text[: len(text) // 2] + b"\n"),
    "middle line lost": line(4, lambda text: b""),
    "environment lost": line(1, lambda text: b""),
    "environment of a wrong type": line(1, lambda text: b'{"key": [], "environment": 3}\n'),
    "no JSON": line(4, lambda text: b"\x00\xff\x00\n"),
    "a number": line(4, lambda text: b"3\n"),
    "a list": line(4, lambda text: b"[[]]\n"),
    "deeply nested": line(4, lambda text: b"[" * 100_000 + b"\n"),
    "an empty object": line(4, lambda text: b"{}\n"),
    "count of a wrong type": field("result", "recovered", "many"),
    "count of a list": field("result", "recovered", [1]),
    "count of a fraction": field("result", "recovered", 1.5),
    "dimension of a wrong type": field("cell", "dim", "8"),
    "optimizer of a wrong type": field("cell", "optimizer", ["sgd"]),
    "seed of nothing": field("cell", "seed", None),
    "cell of a wrong type": line(-1, lambda text: b'{"cell": 3, "result": {}, "producer": "x"}\n'),
}


@pytest.mark.parametrize("name", CELLS)
def test_damage_to_cells_costs_them_and_is_kept_aside(
    name: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged(finished, tmp_path, "cells.jsonl", CELLS[name])
    before = (tmp_path / "cells.jsonl").read_bytes().splitlines()
    assert run_command([*RESUME, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()
    after = set((tmp_path / "cells.jsonl").read_bytes().splitlines())
    lost = [text for text in before if text not in after]
    if name.endswith("lost"):
        assert not lost
        assert not caplog.messages
    else:
        assert (tmp_path / "cells.damaged.jsonl").read_bytes().splitlines() == lost
        (message,) = caplog.messages
        assert "1 damaged line was moved to cells.damaged.jsonl" in message


def test_damaged_lines_are_told_on_stderr(finished: Path, tmp_path: Path) -> None:
    damaged(finished, tmp_path, "cells.jsonl", lambda content: content + b"\xff\x00\n{}\n")
    command = [sys.executable, "-m", "memsolve", *RESUME, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (message,) = [each for each in done.stderr.splitlines() if "damaged" in each]
    assert (
        f"{tmp_path / 'cells.jsonl'}: 2 damaged lines were moved to cells.damaged.jsonl" in message
    )


LOST = {
    "first line lost": line(0, lambda text: b""),
    "first line torn": line(0, lambda text: text[:20] + b"\n"),
    "first line changed": line(0, lambda text: text.replace(b"capacity", b"capacitz")),
    "empty": lambda content: b"",
    "settings of a wrong type": line(0, lambda text: b'{"layout": 2, "settings": [3]}\n'),
    "settings of another study": line(
        0, signed(lambda entry: entry["settings"].update(study="precision"))
    ),
    "cells of another study appended": lambda content: (
        content + line(0, signed(lambda entry: entry["settings"].update(dtype="x")))(content)
    ),
    "another layout": line(0, signed(lambda entry: entry.update(layout=9))),
}


@pytest.mark.parametrize("name", LOST)
def test_cells_of_no_known_study_are_refused_in_one_line(
    name: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(finished, tmp_path, "cells.jsonl", LOST[name])
    before = (tmp_path / "cells.jsonl").read_bytes()
    assert run_command([*RESUME, "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "cells.jsonl").read_bytes() == before


def edited(change: Any) -> Any:
    def damage(content: bytes) -> bytes:
        found = json.loads(content)
        change(found)
        return json.dumps(found).encode()

    return damage


def put(*path: Any) -> Any:
    """The damage that puts the last of these at the place that the others name."""
    *places, last, value = path

    def change(found: Any) -> None:
        for place in places:
            found = found[place]
        found[last] = value

    return edited(change)


SUMMARIES = {
    "empty": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "no text": lambda content: b"\xff\xfe\x00",
    "a list": lambda content: b"[]",
    "a number": lambda content: b"3",
    "deeply nested": lambda content: b"[" * 100_000,
    "no study": edited(lambda found: found.pop("study")),
    "unknown study": put("study", "astrology"),
    "study of a wrong type": put("study", 3),
    "no fits": put("fits", []),
    "fits of a wrong type": put("fits", 3),
    "fit of a wrong type": put("fits", 0, "x"),
    "optimizer of a wrong type": put("fits", 0, "optimizer", 3),
    "alpha of a wrong type": put("fits", 0, "alpha", "high"),
    "exponent of a wrong type": put("fits", 0, "exponent", "steep"),
    "no note": edited(lambda found: found["fits"][0].pop("note")),
    "points of a wrong type": put("fits", 0, "points", {}),
    "a point lost": edited(lambda found: found["fits"][0]["points"].pop()),
    "all points lost": edited(lambda found: [fit["points"].clear() for fit in found["fits"]]),
    "point of a wrong type": put("fits", 0, "points", 0, None),
    "counts of a wrong type": put("fits", 0, "points", 0, "recovered", "many"),
    "count of a wrong type": put("fits", 0, "points", 0, "recovered", ["many"]),
    "negative dimension": edited(
        lambda found: [fit["points"][0].update(dim=-1) for fit in found["fits"]]
    ),
    "no dimension": edited(lambda found: found["fits"][0]["points"][0].pop("dim")),
    "environment of a wrong type": put("environment", []),
    "remarks of a wrong type": put("remarks", 3),
    "failures of a wrong type": put("failed", [3]),
}


NO_STUDY = (
    *("empty", "torn", "no text", "a list", "a number", "deeply nested"),
    *("no study", "study of a wrong type"),
)


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_damaged_summary_is_refused_in_one_line(
    name: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(finished, tmp_path, "summary.json", SUMMARIES[name])
    assert run_command(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert name == "unknown study" or str(tmp_path / "summary.json") in message
    assert ("is damaged" in message) == (name in NO_STUDY)
    assert not (tmp_path / "page").exists()
    with pytest.raises(InputError):
        load(tmp_path)


def test_a_second_process_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"""
from pathlib import Path
from memsolve.engine.storage.folder import alone

with alone(Path({str(tmp_path)!r})):
    print("in", flush=True)
    input()
"""
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stdout.readline() == b"in\n"
    assert run_command([*RESUME, "--out", str(tmp_path)]) == 2
    assert "is in use by another process; wait" in capsys.readouterr().err
    first.kill()  # the lock goes with the process
    first.communicate()
    with alone(tmp_path):
        pass


class FullDisk:
    """A disk on which files of one name find no room for their second half."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = folder.opened

        def open_(path: Path, mode: Any) -> Any:
            file: Any = opened(path, mode)
            if name in path.name and mode != "rb":
                file.write = self._full(file.write)
            return file

        monkeypatch.setattr(folder, "opened", open_)

    @staticmethod
    def _full(write: Any) -> Any:
        def half(content: Any) -> None:
            write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return half


@pytest.mark.parametrize(
    "name", ["cells.jsonl", "summary.json", "points.csv", "capacity-against-d.png", "report.html"]
)
def test_a_full_disk_is_told_with_the_file_and_leaves_no_half_of_it(
    name: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [*RESUME, "--out", str(tmp_path)]
    with monkeypatch.context() as full:
        FullDisk(name, full)
        assert run_command(command) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / name} cannot be written: No space left on device" in message
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*.partial"))
    assert run_command(command) == 0
    assert (tmp_path / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()


def test_what_was_there_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "file", "old")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("words", "place", "advice"),
    [
        (["capacity"], "memsolve.engine.run.prepare", "goes on with --resume"),
        (["capacity"], "memsolve.study.one_step.base.step_from_zero", "goes on with --resume"),
        (["capacity"], "memsolve.engine.results.load.write", "goes on with --resume"),
        (["capacity"], "memsolve.api.write_report", "goes on with --resume"),
        (["report", "FINISHED"], "memsolve.cli.load", "no file is half-written; run it again"),
        (["report", "FINISHED"], "memsolve.report.page.write", "run it again"),
        (["--help"], "memsolve.cli.studies", "run it again"),
    ],
)
def test_an_interruption_is_one_line_from_any_place(
    words: list[str],
    place: str,
    advice: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    options = ["--dims", "8", "--seeds", "1"] if words[0] == "capacity" else []
    words = [str(finished) if word == "FINISHED" else word for word in words]
    monkeypatch.setattr(sys, "argv", ["memsolve", *words, *options, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line] == [f"memsolve: interrupted; {_advised(lines, advice)}"]


def _advised(lines: list[str], advice: str) -> str:
    said = lines[-1].removeprefix("memsolve: interrupted; ")
    assert said.endswith(advice)
    return said


IMPORTING = """
import sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "torch":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
sys.argv = ["memsolve", "--help"]
from memsolve.__main__ import main
main()
"""


def test_an_interruption_during_the_imports_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "memsolve: interrupted; run it again\n"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    import memsolve

    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"memsolve {memsolve.__version__}\n"
