"""`python -m bench.readme`: write the tables of README.md and docs/ from bench/results/.

Only what is between the markers is written. A test fails if a table differs from its record.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import board, record
from bench.registry import OURS
from bench.repository import ROOT
from bench.rows import Row

BEST = 5
"""How many rows of the leaderboard the README shows."""


def pages() -> dict[Path, str]:
    """Pages with tables, with all their tables up to date."""
    ranking = board.table(board.recorded())
    blocks = {
        "README.md": ("best", best(ranking)),
        "docs/leaderboard.md": ("leaderboard", ranking),
        "docs/performance.md": ("bench", tables(record.machines())),
    }
    return {
        ROOT / name: replace_block((ROOT / name).read_text(), *block)
        for name, block in blocks.items()
    }


def replace_block(text: str, name: str, table: str) -> str:
    """A page with the block of this name replaced.

    Raises:
        ValueError: the page lacks the markers.
    """
    begin = f"<!-- {name}:begin (made by python -m bench.readme) -->"
    end = f"<!-- {name}:end -->"
    before, opening, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not (opening and closing):
        raise ValueError(f"the page needs the lines {begin} and {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def best(ranking: str) -> str:
    """The first columns and rows of the leaderboard's table: rank, optimizer and share."""
    head, _, *rows = (line.split(" | ")[:3] for line in ranking.splitlines())
    lines = [head, ["|---:", "---", "---"], *rows[:BEST]]
    return "\n".join(f"{' | '.join(cells)} |" for cells in lines)


def tables(machines: Iterable[dict[str, Any]]) -> str:
    """Markdown of every machine: what it is, then how many times as fast ours is."""
    return "\n\n".join(_format_machine(machine) for machine in machines)


def ratios(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows that have a time, by case; cases of which ours has none are left out."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        if row.hot:
            cases.setdefault(row.case, []).append(row)
    return {name: timed for name, timed in cases.items() if timed[0].way == OURS}


def provenance(machine: dict[str, Any]) -> str:
    """Hardware, versions, commit and command in a line."""
    here = machine["machine"]
    gpu = f"driver {here['driver']}, CUDA {here['cuda']}, " if "cuda" in here else ""
    return (
        f"{here['device']}, {here['threads']} threads, {gpu}torch {here['torch']}, triton "
        f"{here['triton']}, Python {here['python']}; commit {machine['commit'][:10]}, "
        f"{machine['date']}; `{machine['command']}`"
    )


def _format_machine(machine: dict[str, Any]) -> str:
    lines = [
        f"**{machine['machine']['device']}**, time over ours (above one, ours is faster):",
        "",
        "| case | ours | extra memory | others, time over ours [95%] |",
        "|---|---:|---:|---|",
        *(_format_case(case, rows) for case, rows in ratios(machine["rows"]).items()),
        "",
        f"Measured on {provenance(machine)}. *Italic*: a part of the work only, a limit.",
    ]
    return "\n".join(lines)


def _format_case(case: str, rows: list[Row]) -> str:
    ours, *others = rows
    memory = "-" if ours.extra_bytes is None else f"{ours.extra_bytes / 1e6:.1f} MB"
    cells = "<br>".join(_format_ratio(row) for row in others if row.ratio is not None)
    return f"| {case} | {1e3 * ours.median:.3g} ms | {memory} | {cells} |"


def _format_ratio(row: Row) -> str:
    assert row.ratio is not None
    name = f"*{row.way}*" if row.status == "bound" else row.way
    noise = "" if row.differs else ", within noise"
    return f"{name} {row.ratio.value:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]{noise}"


def main() -> int:
    argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__).parse_args()
    for path, text in pages().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
