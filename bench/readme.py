"""`python -m bench.readme`: write the README's tables from bench/results/.

Only what stands between the markers is written; a test fails when the two differ.
"""

import argparse
import sys
from typing import Any

from bench import board, record
from bench.registry import OURS
from bench.repository import ROOT
from bench.rows import Row

README = ROOT / "README.md"


def tables(machines: list[dict[str, Any]]) -> str:
    """Markdown of every machine: what it is, then how many times as fast ours is."""
    return "\n\n".join(_table(machine) for machine in machines)


def written(text: str, name: str, table: str) -> str:
    """The README with the block of a name made anew.

    Raises:
        ValueError: it lacks the markers.
    """
    begin = f"<!-- {name}:begin (made by python -m bench.readme) -->"
    end = f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the README needs the lines {begin} and {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def made(text: str) -> str:
    """The README with all its tables made anew."""
    text = written(text, "bench", tables(record.machines()))
    return written(text, "leaderboard", board.table(board.recorded()))


def ratios(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that have a time, by case; cases of which ours has none are left out."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        if row.hot:
            cases.setdefault(row.case, []).append(row)
    return {name: found for name, found in cases.items() if found[0].way == OURS}


def provenance(machine: dict[str, Any]) -> str:
    """Hardware, versions, commit and command in a line."""
    here = machine["machine"]
    gpu = f"driver {here['driver']}, CUDA {here['cuda']}, " if "cuda" in here else ""
    return (
        f"{here['device']}, {here['threads']} threads, {gpu}torch {here['torch']}, triton "
        f"{here['triton']}, Python {here['python']}; commit {machine['commit'][:10]}, "
        f"{machine['date']}; `{machine['command']}`"
    )


def _table(machine: dict[str, Any]) -> str:
    lines = [
        f"**{machine['machine']['device']}**, time over ours (above one, ours is faster):",
        "",
        "| case | ours | extra memory | others, time over ours [95%] |",
        "|---|---:|---:|---|",
        *(_line(case, rows) for case, rows in ratios(machine["rows"]).items()),
        "",
        f"Measured on {provenance(machine)}. *Italic*: a part of the work only, a limit.",
    ]
    return "\n".join(lines)


def _line(case: str, rows: list[Row]) -> str:
    ours, *others = rows
    memory = "-" if ours.extra_bytes is None else f"{ours.extra_bytes / 1e6:.1f} MB"
    cells = "<br>".join(_ratio(row) for row in others if row.ratio is not None)
    return f"| {case} | {1e3 * ours.median:.3g} ms | {memory} | {cells} |"


def _ratio(row: Row) -> str:
    assert row.ratio is not None
    name = f"*{row.way}*" if row.status == "bound" else row.way
    noise = "" if row.differs else ", within noise"
    return f"{name} {row.ratio.value:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]{noise}"


def main() -> int:
    argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__).parse_args()
    README.write_text(made(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
