"""A study's files: what is damaged, foreign, replaced, removed, linked or blocking."""

import json
import os
import random
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memsolve import InputError
from memsolve.cli import run_command
from memsolve.engine import Cell
from memsolve.engine.storage import folder, ownership
from memsolve.engine.storage.lines import from_line, to_line
from memsolve.engine.storage.store import Store, StoreError
from memsolve.environment import Environment
from memsolve.study import load
from memsolve.study.one_step.base import StepResult

RECORDS = Path(__file__).parents[2] / "bench/results"
SETTINGS = {"study": "capacity", "dtype": "float64"}
MAKERS: list[Environment] = [{"torch": "2", "source": source} for source in ("a", "b")]
TRUTH = {
    (Cell(name, 1.5, dim, 128 * dim, None, seed), place): StepResult(100 * place + dim + seed, seed)
    for place, name in enumerate(("sgd", "muon"))
    for dim in (8, 16)
    for seed in range(4)
}
COMMAND = ["capacity", "--optimizers", "sgd", "--dims", "8", "--seeds", "1"]


def store(directory: Path, *, resume: bool = True) -> Store[Cell, StepResult]:
    return Store(directory, SETTINGS, Cell, StepResult, resume=resume)


def fill(kept: Store[Cell, StepResult]) -> None:
    for (cell, place), result in TRUTH.items():
        if kept.find(cell, MAKERS[place]) is None:
            kept.add(cell, result, MAKERS[place])
    kept.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if stat.S_ISREG(path.lstat()[0])
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a finished study's cells."""
    directory = tmp_path_factory.mktemp("whole")
    fill(store(directory, resume=False))
    return (directory / "cells.jsonl").read_bytes().splitlines(keepends=True)


Damage = Callable[[random.Random, list[bytes]], list[bytes]]
"""Lines as they are after a damage; some may hold several lines, or parts."""


def truncated(chance: random.Random, lines: list[bytes]) -> list[bytes]:
    content = b"".join(lines)
    return [content[: chance.randrange(len(content))]]


def flipped(chance: random.Random, lines: list[bytes]) -> list[bytes]:
    content = bytearray(b"".join(lines))
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content).splitlines(keepends=True)


def with_garbage(chance: random.Random, lines: list[bytes]) -> list[bytes]:
    content = b"".join(lines)
    place = chance.randrange(len(content))
    garbage = chance.choice([chance.randbytes(30), b"\x00" * 4096, b"\n\xff\n", b"[" * 50_000])
    return [content[:place], garbage, content[place:]]


def with_foreign_lines(chance: random.Random, lines: list[bytes]) -> list[bytes]:
    foreign = [
        b'{"weather": "fine"}\n',
        b"3\n",
        b'{"cell": 3, "result": {}, "made": []}\n',
        to_line({"cell": {"dim": "8"}, "result": {"steps": [1]}, "made": "0"}).encode(),
        to_line({"settings": SETTINGS | {"study": "precision"}, "layout": 2}).encode(),
    ]
    return [*lines, *chance.sample(foreign, chance.randint(1, 3))]


def swapped(chance: random.Random, lines: list[bytes]) -> list[bytes]:
    return chance.sample(lines, len(lines))


def repeated(chance: random.Random, lines: list[bytes]) -> list[bytes]:
    return sorted([*lines, *chance.choices(lines, k=3)], key=lambda _: chance.random())


DAMAGES: list[Damage] = [
    *(truncated, flipped, with_garbage, with_foreign_lines, swapped, repeated),
]

FOREIGN = {
    "notes.txt": b"mine",
    "points.csv": b"a,b\n",
    "summary.json": b'{"study": "capa',
    "summary.damaged.json": b"older\n",
    "cells.damaged.jsonl": b"older\n",
    "report.html": b"<html>",
}


def test_a_thousand_resumes_of_damaged_folders_lose_and_delete_nothing(
    whole: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    chance = random.Random(0)
    went_on = 0
    for trial in range(1000):
        directory = tmp_path / str(trial)
        directory.mkdir()
        lines = whole
        for damage in chance.choices(DAMAGES, k=chance.randint(1, 2)):
            lines = damage(chance, lines) or [b"\n"]
        (directory / "cells.jsonl").write_bytes(b"".join(lines))
        for name in chance.sample(sorted(FOREIGN), chance.randint(0, 2)):
            (directory / name).write_bytes(FOREIGN[name])
        before = contents(directory)
        try:
            kept = store(directory)
        except StoreError:
            assert contents(directory) == before
        else:
            went_on += 1
            check_resumed(kept, directory, before, whole)
        shutil.rmtree(directory)
    assert went_on > 500


def check_resumed(
    kept: Store[Cell, StepResult], directory: Path, before: dict[str, bytes], whole: list[bytes]
) -> None:
    """No undamaged cell is lost, no damaged one believed, and no byte is gone."""
    left = set(before["cells.jsonl"].split(b"\n"))
    for line in whole:
        if b'"cell"' in line and line.strip() in left:
            cell = Cell(**json.loads(line)["cell"])
            assert any(kept.find(cell, maker) for maker in MAKERS)
    for (cell, place), result in TRUTH.items():
        assert kept.find(cell, MAKERS[place]) in (None, result)
    after = contents(directory)
    there = Counter((after["cells.jsonl"] + after.get("cells.damaged.jsonl", b"")).split(b"\n"))
    had = Counter((before["cells.jsonl"] + b"\n").split(b"\n"))
    had.update(before.get("cells.damaged.jsonl", b"").split(b"\n"))
    assert {line for line in had if line.strip() and had[line] != there[line]} == set()
    moved = after.get("summary.damaged.json", b"")
    assert before.get("summary.json", b"") in moved
    assert before.get("summary.damaged.json", b"") in moved
    for name in ("notes.txt", "points.csv", "report.html"):
        assert after.get(name) == before.get(name)
    fill(kept)
    again = store(directory)
    assert all(again.find(cell, MAKERS[at]) == of for (cell, at), of in TRUTH.items())


def test_lines_of_later_versions_and_of_other_grids_stay(
    whole: list[bytes], tmp_path: Path
) -> None:
    fields = json.loads(whole[-1])
    del fields["crc"]
    later = [
        fields | {"cell": fields["cell"] | {"momentum": 0.5}},
        fields | {"result": fields["result"] | {"margin": 1}},
        fields | {"note": "from tomorrow"},
    ]
    content = b"".join(whole[:-1]) + b"".join(to_line(each).encode() for each in later)
    (tmp_path / "cells.jsonl").write_bytes(content)
    kept = store(tmp_path)
    assert contents(tmp_path) == {"cells.jsonl": content}
    assert all(kept.find(cell, MAKERS[at]) == of for (cell, at), of in TRUTH.items())


def test_lines_without_checksums_count_where_the_first_has_none(
    whole: list[bytes], tmp_path: Path
) -> None:
    old = [json.loads(line) for line in whole]
    for fields in old:
        del fields["crc"]
    content = "".join(json.dumps(fields) + "\n" for fields in old)
    (tmp_path / "cells.jsonl").write_text(content)
    kept = store(tmp_path)
    fill(kept)
    assert (tmp_path / "cells.jsonl").read_text() == content


@pytest.mark.parametrize("at", [0, 3])
def test_settings_without_a_checksum_are_damage_beside_others(
    at: int, whole: list[bytes], tmp_path: Path
) -> None:
    foreign = b'{"settings": {}}\n'
    (tmp_path / "cells.jsonl").write_bytes(b"".join([*whole[:at], foreign, *whole[at:]]))
    kept = store(tmp_path)
    assert all(kept.find(cell, MAKERS[place]) == of for (cell, place), of in TRUTH.items())
    assert (tmp_path / "cells.damaged.jsonl").read_bytes() == foreign


HELD: dict[str, dict[str, bytes]] = {
    "cells of another study": {
        "cells.jsonl": to_line({"layout": 2, "settings": {"study": "precision"}}).encode()
    },
    "cells of no study": {"cells.jsonl": b"mine\n"},
    "no cells": {"cells.jsonl": b""},
    "a record": {"summary.json": b'{"study": "capacity", "command": "memsolve capacity"}'},
    "a report": {"report.html": b"<html>"},
    "a table": {"points.csv": b"mine"},
    "a figure": {"capacity-against-d.png": b"\x89PNG"},
    "damaged lines": {"cells.damaged.jsonl": b"{"},
}


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("name", HELD)
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(
    name: str, resume: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, content in HELD[name].items():
        (tmp_path / file).write_bytes(content)
    assert run_command([*COMMAND, *resume, "--out", str(tmp_path)]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in message
    assert "choose another folder" in message
    assert contents(tmp_path) == HELD[name]


@pytest.mark.parametrize("path", sorted({each.parent for each in RECORDS.rglob("summary.json")}))
@pytest.mark.parametrize("study", ["capacity", "precision", "dynamics", "leaderboard"])
def test_records_are_refused(path: Path, study: str) -> None:
    with pytest.raises(StoreError, match=r"without the cells\.jsonl"):
        ownership.check(path, {"study": study})


def test_the_summary_of_another_study_beside_the_cells_is_refused(tmp_path: Path) -> None:
    store(tmp_path, resume=False)
    (tmp_path / "summary.json").write_text('{"study": "precision", "command": "x"}')
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=r"summary\.json of a precision study"):
        store(tmp_path)
    assert contents(tmp_path) == before


def test_files_that_are_none_of_a_study_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "loss.png").write_bytes(b"mine")
    (tmp_path / ".git").mkdir()
    assert run_command([*COMMAND, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "loss.png").read_bytes() == b"mine"


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_cells_that_vanish_under_a_running_study_are_written_anew(how: str, tmp_path: Path) -> None:
    kept = store(tmp_path, resume=False)
    cells = list(TRUTH.items())
    for number, ((cell, place), result) in enumerate(cells):
        if number in (0, 5, len(cells) - 1):
            file = tmp_path / "cells.jsonl"
            file.unlink() if how == "removed" else file.write_bytes(b"")
        kept.add(cell, result, MAKERS[place])
    kept.close()
    again = store(tmp_path)
    assert all(again.find(cell, MAKERS[at]) == of for (cell, at), of in TRUTH.items())


def test_cells_replaced_under_a_running_study_are_not_written_to(tmp_path: Path) -> None:
    kept = store(tmp_path, resume=False)
    (tmp_path / "other").write_bytes(b"of somebody else")
    (tmp_path / "other").replace(tmp_path / "cells.jsonl")
    with pytest.raises(InputError, match="was replaced by another file"):
        fill(kept)
    assert (tmp_path / "cells.jsonl").read_bytes() == b"of somebody else"


def test_a_line_that_did_not_fit_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store(tmp_path, resume=False)
    before = (tmp_path / "cells.jsonl").read_bytes()

    def half(file: Any, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(folder, "write_all", half)
        with pytest.raises(InputError, match="No space left on device"):
            fill(kept)
    assert (tmp_path / "cells.jsonl").read_bytes() == before
    fill(kept)
    assert contents(tmp_path).keys() == {"cells.jsonl"}


def test_lines_are_flushed_once_a_second_and_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store(tmp_path, resume=False)
    now, flushed = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_size))
    size = (tmp_path / "cells.jsonl").stat
    lines = []
    for (cell, place), result in list(TRUTH.items())[:8]:
        kept.add(cell, result, MAKERS[place])
        lines.append(size().st_size)
        now[0] += 0.375
    assert flushed == [lines[0], lines[3], lines[6]]
    kept.close()
    kept.close()
    assert flushed[3:] == [lines[-1]]


NAMES = (
    "cells.jsonl",
    "summary.json",
    "points.csv",
    "report.html",
    "capacity-against-d.png",
    ".lock",
)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to(path.with_name("target"))


@pytest.mark.parametrize("put", [pipe, Path.mkdir, link])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_regular_file_is_refused_at_once(
    name: str, put: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "target").write_text("mine")
    put(tmp_path / name)
    assert run_command([*COMMAND, "--resume", "--out", str(tmp_path)]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / name} is a" in message
    assert "expected a regular file" in message
    assert contents(tmp_path).items() <= {"target": b"mine", ".lock": b""}.items()


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    pipe(tmp_path / "summary.json")
    with pytest.raises(InputError, match=r"summary\.json is a named pipe"):
        load(tmp_path)
    with pytest.raises(InputError, match="is a device"):
        folder.read(Path("/dev/zero"))


def test_a_link_is_read_and_not_written_through(tmp_path: Path) -> None:
    shutil.copy(RECORDS / "precision/summary.json", tmp_path / "target")
    link(tmp_path / "summary.json")
    before = (tmp_path / "target").read_bytes()
    assert load(tmp_path)[0].name == "precision"
    with pytest.raises(InputError, match="is a symbolic link"):
        folder.write(tmp_path / "summary.json", "other")
    assert (tmp_path / "target").read_bytes() == before


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_no_name_of_a_temporary_file_can_be_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = Path.replace

    def watched(path: Path, target: Path) -> Path:
        seen.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    for _ in range(2):
        folder.write(tmp_path / "file", "content")
    assert len(set(seen)) == 2
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert contents(tmp_path) == {"file": b"content"}


def test_what_killed_processes_left_of_a_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".memsolve-cells.jsonl-0123456789abcdef.partial").write_text("half")
    (tmp_path / ".memsolve-report.html-0123456789abcdef.partial").write_text("at work")
    (tmp_path / ".cells.jsonl.partial").write_text("not ours")
    store(tmp_path, resume=False)
    assert contents(tmp_path).keys() == {
        *("cells.jsonl", ".cells.jsonl.partial"),
        ".memsolve-report.html-0123456789abcdef.partial",
    }


@pytest.mark.parametrize("value", [float("inf"), 2**63, "\ud800", [[1.5, None]], -0.0])
def test_a_line_gives_back_what_it_was_made_of(value: object) -> None:
    line = from_line(to_line({"value": value}).encode())
    assert line is not None
    assert line.checked
    assert repr(line.fields["value"]) == repr(value)
