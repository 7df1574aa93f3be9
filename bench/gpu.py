"""`python -m bench.gpu`: everything that only a GPU can show, part by part, as one record.

Each part (`PARTS`, in order of worth) is a process of its own under a limit of its own, so that one
that fails or is cut off costs no other. What it writes lies in `OUT/gpu/<commit>/` as soon as it is
there: a log, a table's cases one by one, a study's cells. `OUT/<gpu>.json`, the record of a
machine, is made anew from these files after every part, so that one that runs later, alone, joins
it. Nothing is installed, and neither git nor a network is needed: `MEMSOLVE_COMMIT` names the
commit where the tree was copied without its history.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import ChainMap
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench import record
from bench.history import machine
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
    """What runs by itself.

    Attributes:
        name: for the command line and the record.
        limit: seconds after which it is cut off.
        arguments: of Python; `OUT` in them stands for the part's folder.
        under: a program that Python runs under, if it is there; else the part is skipped.
    """

    name: str
    limit: float
    arguments: tuple[str, ...]
    under: tuple[str, ...] = ()


def table(cases: str, seconds: str, name: str) -> tuple[str, ...]:
    """The benchmarks whose names a regular expression finds, so many seconds a way."""
    return *TABLE, cases, "--seconds", seconds, "--out", f"OUT/{name}.json"


def capacity(alphas: str, dims: str) -> tuple[str, ...]:
    """One-step capacity in float32, with a Muon that resolves float32's spectrum."""
    return *CAPACITY, "--alpha", alphas, "--dims", dims, "--seeds", "2", "--out", "OUT/capacity"


SOFTMAX, SIGN = "^(softmax|retrieval)", "^(matrix_sign|muon)"
TUNED = "^softmax.* d=(128|512|64|256) bfloat16"
PARTS = (  # 480 seconds
    Part("tests", 120, (*PYTEST, "--numprocesses", "12")),
    Part("softmax", 130, table(SOFTMAX, "0.2", "softmax")),
    Part("sign", 110, table(SIGN, "0.2", "sign")),
    Part("capacity", 60, capacity("1.5,1.2,2", "256,512,1024,2048,4096")),
    Part("tune", 30, ("-m", "bench.tune", "--cases", TUNED, "--out", "OUT/tune.json")),
    Part("sanitize", 30, (*PYTEST, "-k", "strides or merge"), (SANITIZER, "--error-exitcode", "9")),
)
QUICK = (  # 120 seconds
    Part("tests", 40, (*PYTEST, "--numprocesses", "12", "-k", "same_bits or bit_by_bit or half")),
    Part("softmax", 40, table(f"{SOFTMAX}.* d=(128|512) bfloat16", "0.1", "softmax")),
    Part("sign", 25, table("^matrix_sign .*(=1024|=132 n=128) bfloat16", "0.1", "sign")),
    Part("capacity", 15, capacity("1.5", "256,512,1024")),
)


def main() -> int:
    """Run the parts that were asked for; 1 if one did not pass, 2 without a GPU."""
    arguments = _arguments()
    if not torch.cuda.is_available():
        print("bench.gpu: no CUDA device is visible to torch; nothing was run", file=sys.stderr)
        return 2
    folder, path = arguments.out / "gpu" / record.commit()[:10], arguments.out / f"{machine()}.json"
    chosen = [part for part in arguments.parts if part.name in arguments.part]
    here, outcomes = environment("cuda"), list[dict[str, Any]]()
    for part in chosen:
        print(f"{part.name}: {arguments.limit or part.limit:g} s at most", flush=True)
        outcomes.append(found := run(part._replace(limit=arguments.limit or part.limit), folder))
        record.write(path, assembled(folder, here))
        print(f"{part.name}: {found['status']}, {found['seconds']} s; {found['said']}", flush=True)
    print(f"written: {path}")
    return int(any(found["status"] != "passed" for found in outcomes))


def run(part: Part, folder: Path) -> dict[str, Any]:
    """Run a part, and leave its log and `<name>.part.json`, how it ended, in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log, ended = (folder / f"{part.name}.{kind}" for kind in ("log", "part.json"))
    (folder / f"{part.name}.json").unlink(missing_ok=True)  # of an earlier run
    record.write(ended, {"status": "running", "limit": part.limit})
    start, status = time.monotonic(), _status(part, folder.resolve(), log)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    outcome = {
        "status": status,
        "limit": part.limit,
        "seconds": round(time.monotonic() - start, 1),
        "said": said[-1].strip() if said else "",
    }
    record.write(ended, outcome)
    return outcome


def _status(part: Part, folder: Path, log: Path) -> str:
    """How a part ends that writes to the log; it and its children are killed at the limit."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    arguments = [argument.replace("OUT", str(folder)) for argument in part.arguments]
    command = [*part.under, sys.executable, *arguments]
    with log.open("w") as written:
        if shutil.which(command[0]) is None:
            return f"{command[0]} is not installed"
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(part.limit)
        except subprocess.TimeoutExpired:
            return f"cut off after {part.limit:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"failed with exit status {status}" if status else "passed"


def assembled(folder: Path, here: Environment) -> dict[str, Any]:
    """The record: what the parts have left in the folder, of this run and of earlier ones."""
    names = [part.name for part in PARTS]
    tables = [_read(folder / f"{name}.json") for name in ("softmax", "sign")]
    limits = [table.get("ceilings", {}) for table in tables]
    return {
        "command": shlex.join(["python", "-m", "bench.gpu", *sys.argv[1:]]),
        "commit": record.commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": here,
        "parts": {name: _read(folder / f"{name}.part.json") for name in names},
        "ceilings": dict(ChainMap(*limits)),
        "rows": [row for table in tables for row in table.get("rows", [])],
        "capacity": _read(folder / "capacity" / "summary.json"),
        "tune": _read(folder / "tune.json").get("cases", []),
    }


def _read(path: Path) -> dict[str, Any]:
    """A part's file; empty where it has not come so far."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _arguments() -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument(
        "--quick", dest="parts", action="store_const", const=QUICK, default=PARTS,
        help="fewer sizes: two minutes in place of eight",
    )  # fmt: skip
    parser.add_argument("--part", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--limit", type=float, help="seconds of a part, in place of its own")
    parser.add_argument("--out", type=Path, default=record.FOLDER, help="a folder for the record")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
