"""`python -m bench.dashboard`: asv's site over the last commits, and a page of the latest ratios.

Commits of the last ten that this machine has not recorded are recorded first, with the
environment at hand: speed and capacity, since every preset takes a second to compile. Compiled
kernels are in the site where `make track` has recorded them.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from bench import history, offline, readme, record
from bench.gate.tree import ROOT

COMMITS = 10
MODULES = {"speed", "capacity"}
HTML = ROOT / ".asv" / "html"
TEMPLATES = Path(__file__).parent / "site"


def publish(results: Path = history.RESULTS, html: Path = HTML) -> Path:
    """Make asv's site and the page of ratios.

    Returns:
        The folder of both.
    """
    with history.configured(results, html) as config:
        status = history.asv("publish", "--no-pull", config=config)
    if status:
        raise RuntimeError(f"asv publish failed with status {status}")
    (html / "ratios.html").write_text(ratios_page())
    if not offline.bring(html):
        print("npm brought no libraries: the site loads them from the internet")
    return html


def ratios_page(folder: Path = record.FOLDER) -> str:
    """The page of the latest ratios of every machine in bench/results/."""
    machines = [
        {
            "name": machine["machine"]["device"],
            "provenance": readme.provenance(machine),
            "cases": readme.ratios(machine["rows"]),
        }
        for machine in record.machines(folder)
    ]
    pages = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    return pages.get_template("ratios.html.jinja").render(machines=machines)


def record_missing(commits: Iterable[str], results: Path = history.RESULTS) -> None:
    """Record the commits of which this machine has no speed or no capacity."""
    for commit in commits:
        missing = sorted(MODULES - history.modules(commit, results))
        if missing:
            count = history.record(commit, "|".join(f"^{name}" for name in missing), results)
            print(f"{commit[:10]}: {count} values", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--commits", type=int, default=COMMITS)
    record_missing(history.last(parser.parse_args().commits))
    folder = publish()
    print(f"open it with: python -m http.server --directory {folder.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
