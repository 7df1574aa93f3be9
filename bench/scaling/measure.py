"""`python -m bench.scaling.measure`: time a sweep, a memory and Muon on 1, 2 and 4 processes.

Every process has one thread; the machine should be quiet. This takes about five minutes on two
cores and writes a record, of which `python -m bench.readme` makes a table.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.record import provenance, write
from bench.repository import ROOT
from bench.scaling.tables import PROCESSES_RECORD
from memsolve.environment import environment

PROCESSES = 1, 2, 4

TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node {processes} "

COMMANDS = {
    "sweep": "-m memsolve dynamics --optimizers sgd,muon --dims 32,64 --num-items 1024 --steps 20 "
    "--device cpu --jobs {processes} --out {out}",
    "memory": TORCHRUN + "-m memsolve dynamics --optimizers sgd,muon --lrs 1 "
    "--schedules constant --dims 128 --num-items 16384 --steps 8 --dtype float32 "
    "--device cpu --out {out}",
    "muon": TORCHRUN + "-m bench.scaling.muon_step",
}
"""By name, what Python runs. Muon's prints its duration; of the others the command is timed."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling.measure", description=__doc__)
    parser.add_argument("--only", choices=COMMANDS, help="measure this one, and write no record")
    only = parser.parse_args().only
    seconds = {name: measure_all(name) for name in ([only] if only else COMMANDS)}
    if only is None:
        write(PROCESSES_RECORD, content(seconds))


def content(seconds: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The record of durations, by name and number of processes."""
    machine = environment("cpu") | {"threads": 1}
    return {**provenance("bench.scaling.measure", machine), "seconds": seconds}


def measure_all(name: str) -> dict[str, float]:
    """Seconds by the number of processes, to four digits."""
    durations: dict[str, float] = {}
    for processes in PROCESSES:
        durations[str(processes)] = float(f"{measure(name, processes):.4g}")
        print(f"{name}: {processes} processes {durations[str(processes)]} s", flush=True)
    return durations


def measure(name: str, processes: int) -> float:
    """Seconds that a command takes, or prints."""
    with TemporaryDirectory() as folder:
        words = COMMANDS[name].format(processes=processes, out=Path(folder, "out")).split()
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        return float(process.stdout) if name == "muon" else time.perf_counter() - start


if __name__ == "__main__":
    main()
