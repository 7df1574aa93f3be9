"""Measured machines on disk: one JSON file each, with all that says how it was made."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Ceilings, Ratio
from bench.repository import git
from bench.rows import Row
from memsolve.environment import environment

FOLDER = Path(__file__).parent / "results"


def save(path: Path, device: str, limits: dict[str, Ceilings], rows: Iterable[Row]) -> None:
    """Write one machine's measurements."""
    content = {
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": environment(device),
        "ceilings": {name: limit._asdict() for name, limit in limits.items()},
        "rows": [asdict(row) for row in rows],
    }
    rounded = json.loads(json.dumps(content), parse_float=lambda text: float(f"{float(text):.6g}"))
    write(path, rounded)


def write(path: Path, content: object) -> None:
    """Write JSON whole: what is killed meanwhile leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".tmp")
    whole.write_text(json.dumps(content, indent=1) + "\n")
    whole.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read them back, the rows as rows."""
    content: dict[str, Any] = json.loads(path.read_text())
    content["rows"] = [
        Row(**{**row, "ratio": row["ratio"] and Ratio(*row["ratio"])}) for row in content["rows"]
    ]
    return content


def machines(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Every measured machine, by file name."""
    return [load(path) for path in sorted(folder.glob("*.json"))]


def commit() -> str:
    """The commit of the working tree, with a plus where files that decide a number differ.

    `MEMSOLVE_COMMIT` names it where the tree was copied without its history.
    """
    given = os.environ.get("MEMSOLVE_COMMIT")
    if given:
        return given
    paths = "kernels", "memsolve", "bench", ":(exclude)bench/results"
    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *paths)
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
