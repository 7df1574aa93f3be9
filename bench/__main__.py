"""`python -m bench`: check and time every case of a device, and print the table.

Exits with 1 if a result of ours is wrong or fails, and with 2 if nothing was measured.
"""

import argparse
import os
import re
import sys
from pathlib import Path

import torch

from bench import record, table
from bench.cases import CASES
from bench.measure import Ceilings, ceilings, clock
from bench.registry import OURS, default_device, matching
from bench.rows import Row, measure
from bench.warm import warm
from memsolve.environment import environment


def main() -> int:
    """Measure, print, and write what was asked for."""
    arguments = _arguments()
    device = default_device() if arguments.device == "auto" else arguments.device
    chosen = matching(CASES, arguments.cases, device)
    here = environment(device)
    print(f"{here['device']}, {here['threads']} threads, torch {here['torch']}")
    if device == "cuda":
        warm(chosen)
    limits: dict[str, Ceilings] = {}
    for form in {case.format.name: case.format for case in chosen}.values():
        limits[form.name] = found = ceilings(clock(device), form, device)
        print(f"ceilings, {form.name}: {found.flops / 1e12:.3g} TF/s, {found.bytes / 1e9:.3g} GB/s")
    print(f"\n{table.LEGEND}\n\n{table.HEADER}")
    rows: list[Row] = []
    for case in chosen:
        rows += (new := measure(case, arguments.seconds, limits[case.format.name]))
        print("\n".join(table.lines(new)), flush=True)
        if arguments.out is not None:  # after each case, so that an interruption keeps the others
            record.save(arguments.out, device, limits, rows)
    ours = [row for row in rows if row.way == OURS]
    if not any(row.hot for row in ours):
        print("nothing was measured", file=sys.stderr)
        return 2
    return int(any(row.status in ("wrong result", "failed") for row in ours))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--cases", default="", help="regular expression of the cases' names")
    parser.add_argument("--seconds", type=float, default=1.2, help="of sampling for each way")
    parser.add_argument("--out", type=Path, help="a JSON file for everything measured")
    arguments = parser.parse_args()
    try:
        re.compile(arguments.cases)
    except re.error as error:
        parser.error(f"--cases {arguments.cases!r} is no regular expression: {error}")
    if arguments.out is not None:
        try:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--out {arguments.out} cannot be written: {error.strerror}")
        if arguments.out.is_dir() or not os.access(arguments.out.parent, os.W_OK):
            parser.error(f"--out {arguments.out} cannot be written; name a file in another folder")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device; use cpu or auto")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
