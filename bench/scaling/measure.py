"""`python -m bench.scaling.measure`: time a sweep, a memory and Muon on 1, 2 and 4 processes.

Every process has one thread; the machine should be quiet.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.repository import ROOT

PROCESSES = 1, 2, 4

TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node {processes} "

COMMANDS = {
    "sweep": "-m memsolve dynamics --optimizers sgd,muon --dims 32,64 --num-items 2048 --steps 20 "
    "--device cpu --jobs {processes} --out {out}",
    "memory": TORCHRUN + "-m memsolve dynamics --optimizers sgd,muon --lrs 1 "
    "--schedules constant --dims 128 --num-items 16384 --steps 20 --dtype float32 "
    "--device cpu --out {out}",
    "muon": TORCHRUN + "-m bench.scaling.muon_step",
}
"""By name, what Python runs. Muon's prints its duration; of the others the command is timed."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling.measure", description=__doc__)
    parser.add_argument("--only", choices=COMMANDS)
    only = parser.parse_args().only
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, one thread a process")
    for name in [only] if only else COMMANDS:
        durations: list[float] = []
        for processes in PROCESSES:
            durations.append(measure(name, processes))
            share = durations[0] / (processes * durations[-1])
            print(f"{name}: {processes} processes {durations[-1]:.2f} s, efficiency {share:.2f}")


def measure(name: str, processes: int) -> float:
    """Seconds that a command takes, or prints."""
    with TemporaryDirectory() as folder:
        words = COMMANDS[name].format(processes=processes, out=Path(folder, "out")).split()
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        return float(done.stdout) if name == "muon" else time.perf_counter() - start


if __name__ == "__main__":
    main()
