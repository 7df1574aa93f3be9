"""`python -m bench.gate BASE [HEAD]`: fails where head is slower, stores less or spills more.

Exits with 1 on a failure, with 2 when nothing was measured.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bench.cases import QUICK
from bench.gate.check import CAPACITY, SPEED, capacity, speed, spills
from bench.gate.report import Report
from bench.gate.tree import PACKAGES, TreeError, git, place
from bench.machine import default_device
from bench.registry import matching


def gate(base: str, head: str, device: str) -> Report:
    """Compare two revisions, or directories that hold the packages."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        before = place(base, Path(folder, "base"))
        after = place(head, Path(folder, "head"))
        if head == "HEAD" and git("status", "--porcelain", "--", *PACKAGES):
            print("bench.gate: what is not committed yet is not compared", file=sys.stderr)
        speed(before, after, [case.name for case in matching(QUICK, "", device)], report)
        capacity(before, after, report)
        spills(before, after, report)
    return report


def verdict(report: Report) -> int:
    """Print the report; the exit status."""
    print("\n".join(report.lines))
    missing = report.missing((SPEED, CAPACITY))
    if report.failures:
        print(f"\nthe gate fails: {len(report.failures)} of the above")
        return 1
    if missing:
        print(f"\nthe gate fails: it measured nothing of {' and '.join(missing)}")
        return 2
    print("\nthe gate passes")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("base", help="a revision, or a directory that holds the packages")
    parser.add_argument("head", nargs="?", default="HEAD", help="likewise; default HEAD")
    arguments = parser.parse_args()
    try:
        report = gate(arguments.base, arguments.head, default_device())
    except TreeError as error:
        parser.error(str(error))
    return verdict(report)


if __name__ == "__main__":
    sys.exit(main())
