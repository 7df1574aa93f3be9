"""The tables of README.md and docs/ are those of bench/results/."""

import subprocess
from pathlib import Path

import pytest

from bench import record
from bench.measure import Ratio
from bench.readme import BEST, best, pages, replace_block, tables
from bench.rows import Row


def test_the_pages_say_what_was_measured() -> None:
    for path, text in pages().items():
        assert path.read_text() == text, "run `python -m bench.readme`"


def test_every_machine_on_record_says_how_it_was_measured() -> None:
    machines = record.machines()
    assert machines
    for machine in machines:
        assert machine["command"].startswith("python -m bench")
        assert machine["commit"] != "unknown"
        assert any(row.hot for row in machine["rows"])


def test_a_commit_can_be_named_where_there_is_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMSOLVE_COMMIT", raising=False)
    monkeypatch.setattr("bench.repository.ROOT", Path("/"))
    assert record.commit() == "unknown"
    monkeypatch.setenv("MEMSOLVE_COMMIT", "0123456789abcdef")
    assert record.commit() == "0123456789abcdef"


@pytest.mark.parametrize(
    ("file", "differs"),
    [("bench/rows.py", True), ("kernels/a.py", True), ("bench/results/a.json", False)],
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


MACHINE = {
    "command": "python -m bench",
    "commit": "0123456789abcdef",
    "date": "2026-01-01",
    "machine": {"device": "A CPU", "threads": 2, "torch": "2", "triton": "3", "python": "3.11"},
    "rows": [
        Row("f n=1", "ours", "ok", hot=[2e-3], extra_bytes=10**6, of_gemm=0.5),
        Row("f n=1", "theirs", "ok", hot=[3e-3], ratio=Ratio(1.5, 1.4, 1.6), differs=True),
        Row("f n=1", "same", "ok", hot=[2e-3], ratio=Ratio(1.01, 0.9, 1.1)),
        Row("f n=1", "limit", "bound", hot=[1e-3], ratio=Ratio(0.5, 0.4, 0.6), differs=True),
        Row("f n=1", "wrong", "wrong result", "relative error 1"),
    ],
}


def test_a_table_has_ratios_with_intervals_and_no_wrong_results() -> None:
    table = tables([MACHINE])
    assert "| f n=1 | 2 ms | 1.0 MB | theirs 1.50 [1.40, 1.60]<br>" in table
    assert "same 1.01 [0.90, 1.10], within noise" in table
    assert "*limit* 0.50 [0.40, 0.60] |" in table
    assert "wrong" not in table
    assert "commit 0123456789, 2026-01-01; `python -m bench`" in table


def test_only_the_block_is_replace_block() -> None:
    begin, end = "<!-- speed:begin (made by python -m bench.readme) -->", "<!-- speed:end -->"
    new = replace_block(f"before\n{begin}\nold\n{end}\nafter\n", "speed", "a table")
    assert new == f"before\n{begin}\na table\n{end}\nafter\n"
    assert replace_block(new, "speed", "a table") == new
    with pytest.raises(ValueError, match="needs the lines"):
        replace_block("no markers", "speed", "a table")


def test_the_best_are_the_first_rows_and_columns() -> None:
    rows = [f"| {rank} | `name` | 0.9 [0.8, 1.0] | rest |" for rank in range(1, 10)]
    head, _, *shown = best(
        "\n".join(["| | optimizer | share | more |", "|---|", *rows])
    ).splitlines()
    assert head == "| | optimizer | share |"
    assert shown == [row.replace(" rest |", "") for row in rows[:BEST]]


def test_the_record_is_where_the_readme_looks() -> None:
    assert Path(__file__).parents[2] / "bench" / "results" == record.FOLDER
