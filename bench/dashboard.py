"""`python -m bench.dashboard`: asv's site over the last commits, and a page of the latest ratios.

Commits of the last ten that this machine has not recorded are recorded first, with the
environment at hand: speed and capacity, since every preset takes a second to compile. Compiled
kernels are in the site where `make track` has recorded them, and a page of its own has those of
the working tree on sm_90.
"""

import argparse
import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path

from bench import compiled, history, offline, readme, record, table
from bench.repository import git

COMMITS = 10
MODULES = {"speed", "capacity"}
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>memsolve: latest ratios</title>
<h1>Latest ratios</h1>
<p><a href="index.html">History over commits</a>, <a href="kernels.html">kernels by count</a></p>
<pre>{legend}</pre>
{machines}
"""
KERNELS = """<!doctype html>
<meta charset="utf-8">
<title>memsolve: kernels by count</title>
<h1>Kernels by count</h1>
<p>What each kernel needs, and what its main loop does for a block and an iteration, read from the
machine code; nothing here was timed. <a href="index.html">History over commits</a></p>
<table border="1"><tr><th>kernel</th>{header}</tr>
{rows}
</table>
"""
MACHINE = '<section class="machine"><h2>{name}</h2><p>{made}</p><pre>{rows}</pre></section>'


def publish() -> Path:
    """Make asv's site and the page of ratios.

    Returns:
        The folder of both.

    Raises:
        ResultError: a file of asv's results cannot be read.
    """
    history.check()
    status = history.asv("publish", "--no-pull")
    if status:
        raise RuntimeError(f"asv publish failed with status {status}")
    html = history.FOLDER / ".asv" / "html"
    (html / "ratios.html").write_text(ratios_page())
    if not offline.bring(html):
        print("npm brought no libraries: the site loads them from the internet")
    return html


def ratios_page(folder: Path = record.FOLDER) -> str:
    """The page of the latest ratios of every machine in bench/results/."""
    sections = []
    for found in record.machines(folder):
        cases = readme.ratios(found["rows"]).values()
        rows = [table.HEADER, *(line for rows in cases for line in table.lines(rows))]
        here = found["machine"]["device"], readme.provenance(found), "\n".join(rows)
        name, made, text = map(escape, here)
        sections.append(MACHINE.format(name=name, made=made, rows=text))
    nothing = "<p>No machine has been measured yet.</p>"
    return PAGE.format(legend=escape(table.LEGEND), machines="\n".join(sections) or nothing)


def kernels_page(found: compiled.Compiled) -> str:
    """The page of what kernels compile to."""
    header = "".join(f"<th>{name}</th>" for name in compiled.METRICS)
    rows = (
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{read.get(metric, float('nan')):.0f}</td>" for metric in compiled.METRICS)
        for name, read in found.items()
    )
    return KERNELS.format(header=header, rows="</tr>\n".join(rows))


def record_missing(commits: Iterable[str]) -> None:
    """Record the commits of which this machine has no speed or no capacity."""
    for commit in commits:
        there = {name.partition(".")[0] for name in history.recorded(commit)}
        if missing := sorted(MODULES - there):
            count = history.record(commit, "|".join(f"^{name}" for name in missing))
            print(f"{commit[:10]}: {count} values", flush=True)


def last(count: int) -> list[str]:
    """The last commits, oldest first."""
    return git("rev-list", "--first-parent", f"--max-count={count}", "HEAD").split()[::-1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--commits", type=int, default=COMMITS)
    arguments = parser.parse_args()
    try:
        history.check()  # before anything is recorded
        record_missing(last(arguments.commits))
        site = publish()
    except history.ResultError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    (site / "kernels.html").write_text(kernels_page(compiled.compiled([90])))
    print(f"open it with: python -m http.server --directory {site}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
