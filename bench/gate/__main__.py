"""`python -m bench.gate BASE [HEAD]`: fails where head is slower, stores less or spills more,
or where its machine code takes more cycles by count.

Exits with 1 on a failure, with 2 when nothing was measured.
"""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import gate
from bench.cases import QUICK
from bench.registry import default_device, select
from bench.repository import PACKAGES, TreeError, extract, git


def compare_trees(base: str, head: str, device: str) -> Iterator[gate.Finding]:
    """Compare two revisions, or directories that hold the packages."""
    with TemporaryDirectory() as folder:
        before = extract(base, Path(folder, "base"))
        after = extract(head, Path(folder, "head"))
        if head == "HEAD" and git("status", "--porcelain", "--", *PACKAGES):
            print("bench.gate: uncommitted changes are not compared", file=sys.stderr)
        yield from gate.compare_speed(
            before, after, [case.name for case in select(QUICK, "", device)]
        )
        yield from gate.compare_capacity(before, after)
        yield from gate.compare_machine_code(before, after)


def report(findings: Iterable[gate.Finding]) -> int:
    """Print each finding as it comes; the exit status."""
    outcomes = set()
    for finding in findings:
        print(finding, flush=True)
        outcomes.add((finding.kind, finding.outcome))
    if gate.FAILED in {outcome for _, outcome in outcomes}:
        print("\nthe gate fails")
        return 1
    if missing := [
        kind for kind in (gate.SPEED, gate.CAPACITY) if (kind, gate.PASSED) not in outcomes
    ]:
        print(f"\nthe gate fails: it measured nothing of {' and '.join(missing)}")
        return 2
    print("\nthe gate passes")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("base", help="a revision, or a directory that holds the packages")
    parser.add_argument("head", nargs="?", default="HEAD", help="likewise; default HEAD")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and clean up
    try:
        return report(compare_trees(arguments.base, arguments.head, default_device()))
    except TreeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
