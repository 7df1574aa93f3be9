"""Measured machines on disk: one JSON file each, with hardware, versions, commit and command."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Ceilings
from bench.registry import default_device
from bench.repository import git
from bench.sampling import Ratio
from bench.timing import Timing
from memsolve.environment import Environment, environment

FOLDER = Path(__file__).parent / "results"


def provenance(program: str, machine: Environment) -> dict[str, Any]:
    """How a record was made: by which command, of what, when and where."""
    return {
        "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
    }


def save(path: Path, device: str, ceilings: dict[str, Ceilings], timings: Iterable[Timing]) -> None:
    """Write one machine's measurements, with six digits."""
    content = {
        **provenance("bench", environment(device)),
        "ceilings": {name: entry._asdict() for name, entry in ceilings.items()},
        "timings": [asdict(timing) for timing in timings],
    }
    rounded = json.loads(json.dumps(content), parse_float=lambda text: float(f"{float(text):.6g}"))
    write(path, rounded)


def write(path: Path, content: object) -> None:
    """Write JSON atomically: an interruption leaves the earlier file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a record, with its timings."""
    content: dict[str, Any] = json.loads(path.read_text())
    content["timings"] = [
        Timing(**{**timing, "ratio": timing["ratio"] and Ratio(*timing["ratio"])})
        for timing in content["timings"]
    ]
    return content


def machines(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Every measured machine, by file name."""
    return [load(path) for path in sorted(folder.glob("*.json"))]


def machine() -> str:
    """A name for this machine, of letters, digits and dashes: asv has no field for a GPU.

    On a GPU it is made of GPU, driver and versions, because each of them moves its times.
    """
    here = environment(default_device())
    versions = [name for name in ("driver", "cuda", "torch", "triton") if name in here]
    label = " ".join([str(here["device"]), *(f"{name} {here[name]}" for name in versions)])
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def commit() -> str:
    """The commit of the working tree, with a plus where files that decide a number differ.

    `MEMSOLVE_COMMIT` names it where the tree was copied without its history.
    """
    if name := os.environ.get("MEMSOLVE_COMMIT"):
        return name
    paths = "kernels", "memsolve", "bench", ":(exclude)bench/results"
    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *paths)
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
