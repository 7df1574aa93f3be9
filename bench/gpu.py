"""`python -m bench.gpu`: everything that needs a GPU, part by part, as one record.

Each part (`PARTS`, the most important first) is a process with a time limit, so that one that fails
or times out does not affect the others. It writes to `OUT/gpu/<commit>/` as it goes: a log, a
table's cases one by one, a study's cells. `OUT/<gpu>.json`, the record of a machine, is rebuilt
from these files after every part, so that a part that runs later, alone, joins it. Nothing is
installed, and neither git nor a network is needed: `MEMSOLVE_COMMIT` names the commit where the
tree was copied without its history.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import ChainMap
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench import record
from bench.repository import ROOT
from memsolve.environment import Environment, environment

TESTS = sorted(
    str(path.relative_to(ROOT))
    for kind in ("triton", "gpu")
    for path in (ROOT / "tests" / "kernels").glob(f"test_*_{kind}.py")
)
PYTEST = "-m", "pytest", "-v", "-p", "no:cacheprovider", *TESTS
TABLE = "-m", "bench", "--device", "cuda", "--cases"
CAPACITY = "-m", "memsolve", "capacity", "--resume", "--device", "cuda", "--dtype", "float32"
SANITIZER = "compute-sanitizer"


class Part(NamedTuple):
    """One process."""

    name: str  # for the command line and the record
    limit: float  # seconds after which it is killed
    arguments: tuple[str, ...]  # of Python; `OUT` in them stands for the part's folder
    under: tuple[str, ...] = ()  # a program that runs Python; without it the part is skipped


def table(cases: str, seconds: str, name: str) -> tuple[str, ...]:
    return *TABLE, cases, "--seconds", seconds, "--out", f"OUT/{name}.json"


def capacity(alphas: str, dims: str) -> tuple[str, ...]:
    return *CAPACITY, "--alpha", alphas, "--dims", dims, "--seeds", "2", "--out", "OUT/capacity"


SOFTMAX, SIGN = "^(softmax|retrieval)", "^(matrix_sign|muon)"
TUNED = "^softmax.* d=(128|512|64|256) bfloat16"
PARTS = (  # 480 seconds
    Part("tests", 120, (*PYTEST, "--numprocesses", "12")),
    Part("softmax", 130, table(SOFTMAX, "0.2", "softmax")),
    Part("sign", 110, table(SIGN, "0.2", "sign")),
    Part("capacity", 60, capacity("1.5,1.2,2", "256,512,1024,2048,4096")),
    Part("tune", 30, (*table(TUNED, "0.02", "tune"), "--tune")),
    Part("sanitize", 30, (*PYTEST, "-k", "strides or merge"), (SANITIZER, "--error-exitcode", "9")),
)
QUICK = (  # 120 seconds
    Part("tests", 40, (*PYTEST, "--numprocesses", "12", "-k", "same_bits or bit_by_bit or half")),
    Part("softmax", 40, table(f"{SOFTMAX}.* d=(128|512) bfloat16", "0.1", "softmax")),
    Part("sign", 25, table("^matrix_sign .*(=1024|=132 n=128) bfloat16", "0.1", "sign")),
    Part("capacity", 15, capacity("1.5", "256,512,1024")),
)


def main() -> int:
    """Run the selected parts; 1 if one did not pass, 2 without a GPU."""
    arguments = _parse()
    if not torch.cuda.is_available():
        print("bench.gpu: no CUDA device is visible to torch; nothing was run", file=sys.stderr)
        return 2
    folder = arguments.out / "gpu" / record.commit()[:10]
    path = arguments.out / f"{record.machine()}.json"
    here, passed = environment("cuda"), True
    for part in arguments.parts:
        if part.name not in arguments.part:
            continue
        part = part._replace(limit=arguments.limit or part.limit)
        print(f"{part.name}: {part.limit:g} s at most", flush=True)
        outcome = run(part, folder)
        passed &= outcome["status"] == "passed"
        record.write(path, assemble(folder, here))
        print("{status}, {seconds} s; {last_line}".format_map(outcome), flush=True)
    print(f"written: {path}")
    return int(not passed)


def run(part: Part, folder: Path) -> dict[str, Any]:
    """Run a part, and write its log and `<name>.part.json`, its outcome, to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log, path = (folder / f"{part.name}.{suffix}" for suffix in ("log", "part.json"))
    (folder / f"{part.name}.json").unlink(missing_ok=True)  # of an earlier run
    record.write(path, {"status": "running", "limit": part.limit})
    start, status = time.monotonic(), _status(part, folder.resolve(), log)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    outcome = {
        "status": status,
        "limit": part.limit,
        "seconds": round(time.monotonic() - start, 1),
        "last_line": lines[-1].strip() if lines else "",
    }
    record.write(path, outcome)
    return outcome


def _status(part: Part, folder: Path, log: Path) -> str:
    """Run a part's process; it and its children are killed at the limit."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    arguments = [argument.replace("OUT", str(folder)) for argument in part.arguments]
    command = [*part.under, sys.executable, *arguments]
    with log.open("w") as output:
        if shutil.which(command[0]) is None:
            return f"{command[0]} is not installed"
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(part.limit)
        except subprocess.TimeoutExpired:
            return f"killed after {part.limit:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"failed with exit status {status}" if status else "passed"


def assemble(folder: Path, here: Environment) -> dict[str, Any]:
    """The record: all that the parts have written to the folder, in this run and earlier ones."""
    tables = [_read(folder / f"{name}.json") for name in ("softmax", "sign")]
    return {
        **record.provenance("bench.gpu", here),
        "parts": {part.name: _read(folder / f"{part.name}.part.json") for part in PARTS},
        "ceilings": dict(ChainMap(*(table.get("ceilings", {}) for table in tables))),
        "timings": [timing for table in tables for timing in table.get("timings", [])],
        "capacity": _read(folder / "capacity" / "summary.json"),
        "tune": _read(folder / "tune.json").get("timings", []),
    }


def _read(path: Path) -> dict[str, Any]:
    """A part's file; empty before it is written."""
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def _parse() -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument(
        "--quick", dest="parts", action="store_const", const=QUICK, default=PARTS,
        help="fewer sizes: two minutes instead of eight",
    )  # fmt: skip
    parser.add_argument("--part", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--limit", type=float, help="seconds of a part, instead of its own")
    parser.add_argument("--out", type=Path, default=record.FOLDER, help="a folder for the record")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
