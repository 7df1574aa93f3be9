"""`python -m bench.history [REVISION ...]`: record commits for asv with the environment at hand.

asv's own environments (`asv run A..B`) are the cleaner way; this one needs no installation, and
serves machines where nothing can be installed. The packages of each revision are measured by the
suite of the working tree. Exits with 2 when nothing was recorded.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.registry import default_device
from bench.repository import ROOT, TreeError, commit, extract, git, temporary_folder
from memsolve.environment import environment

FOLDER = ROOT  # of asv's configuration, results and pages
SUITES = {"Speed", "Capacity"}  # for the site; every preset takes a second to compile


def record(revision: str, pattern: str = ".") -> int:
    """Run asv's benchmarks that match a regular expression on a revision's packages.

    Returns:
        How many values are on record.

    Raises:
        TreeError: there is no such revision, or it has no packages.
    """
    sha = commit(revision)
    with temporary_folder() as folder:
        tree = extract(sha, Path(folder, "tree"))
        packages = os.pathsep.join([str(tree), str(tree / "kernels")])
        asv("machine", "--yes", "--machine", machine())
        asv(
            *("run", "--python=same", "--set-commit-hash", sha, "--machine", machine()),
            *("--show-stderr", "--bench", pattern),
            ASV_PYTHONPATH=packages,
        )
    return sum(map(len, recorded(sha).values()))


def recorded(sha: str) -> dict[str, list[float]]:
    """The values of each benchmark of a commit on this machine, without skipped ones."""
    values: dict[str, list[float]] = {}
    for path in (FOLDER / ".asv" / "results" / machine()).glob(f"{sha[:8]}-*.json"):
        for name, entry in json.loads(path.read_text())["results"].items():
            entries = entry[0] if entry and entry[0] else []
            values[name] = [each for each in entries if each is not None and not math.isnan(each)]
    return values


def record_missing(revisions: Iterable[str]) -> None:
    """Record the suites of the site for revisions of which this machine has none."""
    for revision in revisions:
        suites = {name.partition(".")[0] for name in recorded(revision)}
        if missing := sorted(SUITES - suites):
            count = record(revision, "|".join(f"^{name}" for name in missing))
            print(f"{revision[:10]}: {count} values", flush=True)


def last_commits(count: int) -> list[str]:
    """The last commits, oldest first."""
    return git("rev-list", "--first-parent", f"--max-count={count}", "HEAD").split()[::-1]


def machine() -> str:
    """A name for this machine, of letters, digits and dashes: asv has no field for a GPU.

    On a GPU it is made of GPU, driver and versions, because each of them moves its times.
    """
    here = environment(default_device())
    versions = [name for name in ("driver", "cuda", "torch", "triton") if name in here]
    label = " ".join([str(here["device"]), *(f"{name} {here[name]}" for name in versions)])
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def asv(*arguments: str, **variables: str) -> int:
    """Run asv; its exit status, which is 2 where single benchmarks failed."""
    command = [sys.executable, "-m", "asv", *arguments]
    return subprocess.run(command, cwd=FOLDER, env=os.environ | variables).returncode


def main() -> int:
    """Record each revision, or make the site of the last ones; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("revisions", nargs="*", default=["HEAD"], metavar="REVISION")
    parser.add_argument(
        "--publish", type=int, metavar="N", help="make asv's site; record what the last N lack"
    )
    arguments = parser.parse_args()
    if arguments.publish is not None:
        record_missing(last_commits(arguments.publish))
        return asv("publish", "--no-pull")
    count = 0
    try:
        for revision in arguments.revisions:
            count += (new := record(revision))
            print(f"{revision}: {new} values", flush=True)
    except TreeError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    return 0 if count else 2


if __name__ == "__main__":
    sys.exit(main())
