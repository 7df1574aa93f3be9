"""`python -m bench.history [REVISION ...]`: record commits for asv with the environment at hand.

asv's own environments (`asv run A..B`) are the cleaner way; this one needs no installation, and
serves machines where nothing can be installed. The packages of each revision are laid out beside
the suite of the working tree. Exits with 2 when nothing was recorded.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gate.tree import ROOT, TreeError, commit, git, place
from bench.machine import default_device, name

CONFIG = ROOT / "asv.conf.json"
SUITE = ROOT / "bench" / "tracked"
RESULTS = ROOT / ".asv" / "results"


def record(revision: str, pattern: str = "", results: Path = RESULTS) -> int:
    """Run asv's benchmarks on the packages of a revision.

    Args:
        revision: of this repository.
        pattern: regular expression of the benchmarks; all by default.
        results: asv's folder for them.

    Returns:
        How many values were recorded.

    Raises:
        TreeError: there is no such revision, or it has no packages.
    """
    machine = name(default_device())
    found = commit(revision)
    with tempfile.TemporaryDirectory() as folder, configured(results) as config:
        tree = place(found, Path(folder, "tree"))
        asv("machine", "--yes", "--machine", machine, config=config)
        asv(
            *("run", "--python=same", "--set-commit-hash", found, "--machine", machine),
            "--show-stderr",
            *(("--bench", pattern) if pattern else ()),
            config=config,
            environment={"ASV_PYTHONPATH": os.pathsep.join((str(tree), str(tree / "kernels")))},
        )
    return sum(_values(path) for path in recorded(found, results))


def recorded(commit: str, results: Path = RESULTS) -> list[Path]:
    """asv's files of a commit on this machine."""
    return sorted((results / name(default_device())).glob(f"{commit[:8]}-*.json"))


def modules(commit: str, results: Path = RESULTS) -> set[str]:
    """The suite's modules of which this machine has results of a commit."""
    files = (json.loads(path.read_text()) for path in recorded(commit, results))
    return {name.partition(".")[0] for found in files for name in found["results"]}


@contextmanager
def configured(results: Path = RESULTS, html: Path | None = None) -> Iterator[Path]:
    """A copy of asv's configuration with other folders for results and pages."""
    settings = _settings() | {
        "repo": str(ROOT),
        "benchmark_dir": str(SUITE),
        "results_dir": str(results),
        "html_dir": str(html or RESULTS.parent / "html"),
    }
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "asv.conf.json")
        config.write_text(json.dumps(settings))
        yield config


def asv(*arguments: str, config: Path, environment: dict[str, str] | None = None) -> int:
    """Run asv; its exit status, which is 2 where single benchmarks failed."""
    command = [sys.executable, "-m", "asv", "--config", str(config), *arguments]
    return subprocess.run(command, env={**os.environ, **(environment or {})}).returncode


def last(count: int) -> list[str]:
    """The last commits, oldest first."""
    return git("rev-list", "--first-parent", f"--max-count={count}", "HEAD").split()[::-1]


def _values(path: Path) -> int:
    found = json.loads(path.read_text())
    results = (entry[0] for entry in found["results"].values() if entry)
    numbers = (value for values in results for value in values or [] if value is not None)
    return sum(not math.isnan(number) for number in numbers)  # NaN: skipped


def _settings() -> dict[str, object]:
    lines = CONFIG.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("//"))
    settings: dict[str, object] = json.loads(text)
    return settings


def main() -> int:
    """Record each revision; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("revisions", nargs="*", default=["HEAD"], metavar="REVISION")
    counts = {}
    try:
        for revision in parser.parse_args().revisions:
            counts[revision] = record(revision)
    except TreeError as error:
        parser.error(str(error))
    for revision, count in counts.items():
        print(f"{revision}: {count} values")
    return 0 if any(counts.values()) else 2


if __name__ == "__main__":
    sys.exit(main())
