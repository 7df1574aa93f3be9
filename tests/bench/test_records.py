"""Records say how they were made, and the tables of pages are those of bench/results/."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as table
from bench import record
from bench.gate import __main__ as gate
from bench.measure import Ceilings
from bench.readme import pages, replace_block, shorten, speed_tables
from bench.sampling import Ratio
from bench.timing import Timing


def test_the_tables_of_pages_are_those_of_the_records() -> None:
    texts = pages()
    for path, text in texts.items():
        assert text == path.read_text(), f"{path}: run `python -m bench.readme`"
    for name in ("bench", "leaderboard"):
        assert any(f"<!-- {name}:begin" in text for text in texts.values())


def test_every_machine_on_record_says_how_it_was_measured() -> None:
    machines = record.machines()
    assert machines
    for machine in machines:
        assert machine["command"].startswith("python -m bench")
        assert machine["commit"] != "unknown"
        assert any(timing.hot for timing in machine["timings"])


def test_a_commit_can_be_named_where_there_is_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMSOLVE_COMMIT", raising=False)
    monkeypatch.setattr("bench.repository.ROOT", Path("/"))
    assert record.commit() == "unknown"
    monkeypatch.setenv("MEMSOLVE_COMMIT", "0123456789abcdef")
    assert record.commit() == "0123456789abcdef"


@pytest.mark.parametrize(
    ("file", "differs"),
    [("bench/timing.py", True), ("kernels/a.py", True), ("bench/results/a.json", False)],
)
def test_a_commit_has_a_plus_where_what_decides_a_number_differs(
    file: str, differs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = "git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text("before")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.delenv("MEMSOLVE_COMMIT", raising=False)
    monkeypatch.setattr("bench.repository.ROOT", tmp_path)
    assert not record.commit().endswith("+")
    path.write_text("after")
    assert record.commit().endswith("+") == differs


MACHINE: dict[str, Any] = {
    "command": "python -m bench",
    "commit": "0123456789abcdef",
    "date": "2026-01-01",
    "machine": {"device": "A CPU", "threads": 2, "torch": "2", "triton": "3", "python": "3.11"},
    "timings": [
        Timing("f n=1", "ours", "ok", hot=[2e-3], extra_bytes=10**6, of_gemm=0.5),
        Timing("f n=1", "theirs", "ok", hot=[3e-3], ratio=Ratio(1.5, 1.4, 1.6), differs=True),
        Timing("f n=1", "same", "ok", hot=[2e-3], ratio=Ratio(1.01, 0.9, 1.1)),
        Timing("f n=1", "limit", "bound", hot=[1e-3], ratio=Ratio(0.5, 0.4, 0.6), differs=True),
        Timing("f n=1", "wrong", "wrong result", "relative error 1"),
    ],
}


def test_a_table_has_ratios_with_intervals_and_no_wrong_results() -> None:
    table = speed_tables([MACHINE])
    assert "| f n=1 | 2 ms | 1.0 MB | theirs 1.50 [1.40, 1.60]<br>" in table
    assert "same 1.01 [0.90, 1.10], within noise" in table
    assert "*limit* 0.50 [0.40, 0.60] |" in table
    assert "wrong" not in table
    assert "commit 0123456789, 2026-01-01; `python -m bench`" in table


def test_a_case_where_ours_is_wrong_has_no_row() -> None:
    wrong = Timing("g n=1", "ours", "wrong result", "relative error 1.0")
    peer = Timing("g n=1", "theirs", "ok", hot=[1e-3])
    assert "g n=1" not in speed_tables([MACHINE | {"timings": [wrong, peer]}])


def test_only_the_block_is_replaced() -> None:
    begin, end = "<!-- speed:begin (made by python -m bench.readme) -->", "<!-- speed:end -->"
    page = replace_block(f"before\n{begin}\nold\n{end}\nafter\n", "speed", "a table")
    assert page == f"before\n{begin}\na table\n{end}\nafter\n"
    assert replace_block(page, "speed", "a table") == page
    assert replace_block("no markers", "speed", "a table") == "no markers"
    for half in (begin, end):
        with pytest.raises(ValueError, match="needs both lines"):
            replace_block(half, "speed", "a table")


def test_the_short_table_has_the_best_rows() -> None:
    head, ruler = "| optimizer | minibatch | one-step | state |", "|---|---|---|---:|"
    rows = [f"| `a` | {rank}: 0.9 | 1: 0.8 | 1.0 |" for rank in range(1, 9)]
    lines = shorten("\n".join([head, ruler, *rows, "", "a note"])).splitlines()
    assert lines[:2] == ["| optimizer | minibatch |", "|---|---|"]
    assert lines[2:] == [f"| `a` | {rank}: 0.9 |" for rank in range(1, 6)]
    few = shorten("\n".join([head, ruler, *rows[:2], "", "a note"])).splitlines()
    assert few == lines[:4]


def test_a_record_says_how_it_was_made_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    record.save(path, "cpu", {"float32": Ceilings(1e12, 1e10)}, MACHINE["timings"])
    (content,) = record.machines(tmp_path)
    assert content["timings"] == MACHINE["timings"]
    assert content["ceilings"] == {"float32": {"flops": 1e12, "bytes": 1e10}}
    assert {"command", "commit", "date", "machine"} <= set(content)
    assert {"device", "threads", "torch", "triton", "python"} <= set(content["machine"])


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (table.main, ["--cases", "("], "--cases '(' is no regular expression"),
        (table.main, ["--device", "cuda"], "torch sees no CUDA device"),
        (table.main, ["--out", "/dev/null/x.json"], "--out /dev/null/x.json cannot be written"),
        (table.main, ["--out", "/"], "--out / cannot be written"),
        (gate.main, ["no-such-revision"], "error: 'no-such-revision' is no revision"),
        (gate.main, ["."], "error: '.' lacks one of"),
    ],
)
def test_an_error_is_one_line(
    main: Callable[[], int],
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["a command", *arguments])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 2
    assert message in capsys.readouterr().err
