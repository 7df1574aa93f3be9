"""`python -m bench.gate BASE [HEAD]`: fails where head is slower, stores less or spills more,
or where its machine code takes more cycles by count.

Exits with 1 on a failure, with 2 when nothing was measured.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.cases import QUICK
from bench.gate.check import (
    CAPACITY,
    FAILED,
    PASSED,
    SPEED,
    Finding,
    capacity,
    machine_code,
    speed,
    told,
)
from bench.lifetime import cleaning_up_after_signals, scratch
from bench.registry import default_device, matching
from bench.repository import PACKAGES, TreeError, git, place


def gate(base: str, head: str, device: str) -> Iterator[Finding]:
    """Compare two revisions, or directories that hold the packages."""
    with scratch() as folder:
        before = place(base, Path(folder, "base"))
        after = place(head, Path(folder, "head"))
        if head == "HEAD" and git("status", "--porcelain", "--", *PACKAGES):
            print("bench.gate: what is not committed yet is not compared", file=sys.stderr)
        yield from speed(before, after, [case.name for case in matching(QUICK, "", device)])
        yield from capacity(before, after)
        yield from machine_code(before, after)


def verdict(findings: Iterable[Finding]) -> int:
    """Print each finding as it comes; the exit status."""
    outcomes = {(finding.kind, finding.outcome) for finding in told(findings)}
    if FAILED in {outcome for _, outcome in outcomes}:
        print("\nthe gate fails")
        return 1
    compared = {kind for kind, outcome in outcomes if outcome == PASSED}
    if missing := [kind for kind in (SPEED, CAPACITY) if kind not in compared]:
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
        with cleaning_up_after_signals():
            return verdict(gate(arguments.base, arguments.head, default_device()))
    except TreeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
