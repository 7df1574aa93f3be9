"""`python -m bench.gpu`: everything that only a GPU can show, in one command and one record.

First all GPU tests, and compute-sanitizer over the small ones where it is installed; then, if they
passed, the table of benchmarks with the ceilings of the same run; then a capacity study at large
`d`. All of it goes into `OUT/<gpu>.json`, one file for a machine. Nothing is installed: with
`PYTHONPATH=.:kernels` it needs torch, triton, numpy, pytest and rich. Where the tree was copied
without git, `MEMSOLVE_COMMIT` names its commit.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.history import machine
from bench.repository import ROOT

TESTS = sorted(
    str(path)
    for kind in ("triton", "gpu")
    for path in (ROOT / "tests" / "kernels").glob(f"test_*_{kind}.py")
)
SANITIZED = "-k", "strides or merge"
FULL = {"dims": (256, 512, 1024, 2048, 4096), "num_items": 1 << 20, "alphas": (1.2, 1.5, 2.0)}
QUICK = {"dims": (256, 512, 1024), "num_items": 1 << 17, "alphas": (1.5,)}


def main() -> int:
    """Run the three parts; the record is written after the second and after the third."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and dimensions")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench.gpu: no CUDA device is visible to torch; nothing was run", file=sys.stderr)
        return 2
    tests = _tests()
    print(json.dumps(tests, indent=1))
    if tests["exit status"]:
        return 1
    record: Path = arguments.out / f"{machine()}.json"
    record.unlink(missing_ok=True)
    seconds = "0.1" if arguments.quick else "0.4"
    status = _run("-m", "bench", "--device", "cuda", "--seconds", seconds, "--out", str(record))
    if not record.exists():
        print("bench.gpu: the table failed; nothing was recorded", file=sys.stderr)
        return status
    capacity = _capacity(QUICK if arguments.quick else FULL)
    content = json.loads(record.read_text()) | {"tests": tests, "capacity": capacity}
    record.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {record}")
    return status


def _tests() -> dict[str, Any]:
    pytest = "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS
    status = _run(*pytest)
    sanitizer = shutil.which("compute-sanitizer")
    sanitized: str | int = "not run" if sanitizer else "not installed"
    if sanitizer and not status:
        sanitized = _run(*pytest, *SANITIZED, under=(sanitizer, "--error-exitcode", "9"))
    files = [Path(path).name for path in TESTS]
    return {"files": files, "exit status": status, "compute-sanitizer": sanitized}


def _capacity(sizes: dict[str, Any]) -> dict[str, Any]:
    """One-step capacity in float32, with a Muon that resolves float32's spectrum."""
    from memsolve.study import Grid, capacity  # after the tests, which do not need it

    start = time.monotonic()
    summary = capacity(Grid(**sizes, seeds=2, device="cuda", dtype="float32"))
    return summary.as_json() | {"seconds": round(time.monotonic() - start, 1)}


def _run(*arguments: str, under: tuple[str, ...] = ()) -> int:
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    return subprocess.run(
        [*under, sys.executable, *arguments], env=os.environ | {"PYTHONPATH": path}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
