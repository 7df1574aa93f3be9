"""`python -m bench.history [REVISION ...]`: record commits for asv with the environment at hand.

asv's own environments (`asv run A..B`) are the cleaner way; this one needs no installation, and
serves machines where nothing can be installed. The packages of each revision are laid out beside
the suite of the working tree. Exits with 2 when nothing was recorded.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.lifetime import scratch
from bench.registry import default_device
from bench.repository import ROOT, TreeError, commit, place
from memsolve.environment import environment

FOLDER = ROOT  # of asv's configuration, results and pages


class ResultError(ValueError):
    """A file of asv's results that cannot be read."""


def record(revision: str, pattern: str = "") -> int:
    """Run asv's benchmarks, or those that a regular expression matches, on a revision's packages.

    Returns:
        How many values were recorded.

    Raises:
        TreeError: there is no such revision, or it has no packages.
        ResultError: what is recorded of it already cannot be read, to which asv would add.
    """
    found = commit(revision)
    recorded(found)
    with scratch() as folder:
        tree = place(found, Path(folder, "tree"))
        packages = os.pathsep.join([str(tree), str(tree / "kernels")])
        asv("machine", "--yes", "--machine", machine())
        asv(
            *("run", "--python=same", "--set-commit-hash", found, "--machine", machine()),
            *("--show-stderr", "--bench", pattern or "."),
            ASV_PYTHONPATH=packages,
        )
    return sum(map(len, recorded(found).values()))


def recorded(commit: str) -> dict[str, list[float]]:
    """The values of each benchmark of a commit on this machine, less what was skipped.

    Raises:
        ResultError: a file of it cannot be read.
    """
    found: dict[str, list[float]] = {}
    for path in (FOLDER / ".asv" / "results" / machine()).glob(f"{commit[:8]}-*.json"):
        found |= results(path)
    return found


def results(path: Path) -> dict[str, list[float]]:
    """The values of each benchmark in a file of asv's results, less what was skipped.

    Raises:
        ResultError: it cannot be read, or holds something else.
    """
    with _readable(path):
        entries = json.loads(path.read_text())["results"].items()
        values = {name: entry[0] or [] if entry else [] for name, entry in entries}
        return {
            name: [value for value in found if value is not None and not math.isnan(value)]
            for name, found in values.items()
        }


def check() -> None:
    """Make sure that asv can read all its results, of whatever machine.

    Raises:
        ResultError: names the first file that it cannot read.
    """
    for path in sorted((FOLDER / ".asv" / "results").rglob("*.json")):
        with _readable(path):
            if "-" in path.name:  # of a commit and an environment
                results(path)
            else:
                json.loads(path.read_text())


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except ResultError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ResultError(
            f"{path} is not what asv has written, or half of it ({type(error).__name__}: {error}); "
            "remove it, and record again"
        ) from error


def machine() -> str:
    """This machine in a word of letters, digits and dashes: asv has no field for a GPU.

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
    """Record each revision; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("revisions", nargs="*", default=["HEAD"], metavar="REVISION")
    count = 0
    try:
        for revision in parser.parse_args().revisions:
            count += (new := record(revision))
            print(f"{revision}: {new} values", flush=True)
    except (TreeError, ResultError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    return 0 if count else 2


if __name__ == "__main__":
    sys.exit(main())
