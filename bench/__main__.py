"""`python -m bench`: check and time every case of a device, and print the table.

Exits with 1 if a result of ours is wrong or fails, and with 2 if nothing was measured.
"""

import argparse
import logging
import os
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from multiprocessing import get_context
from pathlib import Path

import torch
from memsolve_kernels.tuning import tuning

from bench import record
from bench.cases import CASES
from bench.measure import Ceilings, clock, measure_ceilings
from bench.registry import OURS, Case, default_device, select
from bench.timing import Timing, measure
from memsolve.environment import environment

COMPILED = OURS, "torch.compile"
MOST_PROCESSES = 8  # each holds a case's inputs and half a GB of CUDA's own
HEADER = (
    f"{'':<34}{'ms':>9}{'cold':>9}{'TF/s':>10}{'GEMM':>6}{'GB/s':>9}{'copy':>6}{'over ours':>11}"
    f" {'[95%]':<16}{'extra MB':>9}{'launch us':>10}{'first s':>9}{'error':>7}"
)
LEGEND = (
    "ms, cold: device time of a call, with warm and with overwritten caches. GEMM, copy: share of\n"
    "the ceilings measured in this run (of tf32x3: a third of tf32's). over ours: its time over\n"
    "ours, median of paired rounds (in the row of ours: an A/A run; ~ within the noise of the A/A\n"
    "run). launch: to enqueue a call on a GPU. first: the first call, compilation included.\n"
    "error: against float64. Lines with a < do a part of the work only: lower bounds."
)


def main() -> int:
    """Measure, print, and write the record if a file is named."""
    arguments = _parse()
    device = default_device() if arguments.device == "auto" else arguments.device
    cases = select(CASES, arguments.cases, device)
    machine = environment(device)
    print(f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}")
    if arguments.tune:
        logging.basicConfig(level=logging.INFO)  # the kernels log each choice
    elif device == "cuda":
        warm_up(cases)
    ceilings: dict[str, Ceilings] = {}
    for fmt in {case.format.name: case.format for case in cases}.values():
        ceilings[fmt.name] = best = measure_ceilings(clock(device), fmt, device)
        print(f"ceilings, {fmt.name}: {best.flops / 1e12:.3g} TF/s, {best.bytes / 1e9:.3g} GB/s")
    print(f"\n{LEGEND}\n\n{HEADER}")
    timings: list[Timing] = []
    for case in cases:
        with tuning() if arguments.tune else nullcontext():
            timings += (new := measure(case, arguments.seconds, ceilings[case.format.name]))
        print("\n".join(table_lines(new)), flush=True)
        if arguments.out is not None:  # after each case, so that an interruption keeps the others
            record.save(arguments.out, device, ceilings, timings)
    ours = [timing for timing in timings if timing.implementation == OURS]
    if not any(timing.hot for timing in ours):
        print("nothing was measured", file=sys.stderr)
        return 2
    return int(any(timing.status in ("wrong result", "failed") for timing in ours))


def warm_up(cases: Iterable[Case]) -> None:
    """Compile for a GPU on all cores, before the clock starts.

    Processes call every implementation that compiles once, and discard the results: Triton and
    torch cache compiled code on disk, where the process that measures finds it. What fails here
    fails again in its row.
    """
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    calls = [(case.name, name) for case in cases for name in COMPILED]
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    with suppress(BrokenProcessPool), pool:
        list(pool.map(call_once, *zip(*calls, strict=True)))


def call_once(case_name: str, name: str) -> None:
    """Call an implementation of a case, both by name, as they are sent to a process."""
    case = next(each for each in CASES if each.name == case_name)
    for implementation in case.function.implementations:
        if implementation.name == name:
            with suppress(Exception):
                implementation.prepare(case.make_inputs())()


def table_lines(timings: Sequence[Timing]) -> list[str]:
    """The table of one case, under its name."""
    return [timings[0].case, *map(_line, timings)]


def _line(timing: Timing) -> str:
    name = f"  {'< ' if timing.status == 'bound' else ''}{timing.implementation}"
    if not timing.hot:
        return f"{name:<34}{timing.status}: {timing.note}"
    ratio = interval = "-"
    if timing.ratio is not None:
        ratio = f"{'' if timing.differs else '~'}{timing.ratio.value:.2f}"
        interval = f"[{timing.ratio.low:.2f} {timing.ratio.high:.2f}]"
    cold = statistics.median_high(timing.cold) if timing.cold else None
    return (
        f"{name:<34}{_number(timing.median, 1e-3):>9}{_number(cold, 1e-3):>9}"
        f"{_number(timing.flops, 1e12):>10}{_percent(timing.of_gemm):>6}"
        f"{_number(timing.bytes, 1e9):>9}{_percent(timing.of_copy):>6}"
        f"{ratio:>11} {interval:<16}{_number(timing.extra_bytes, 1e6):>9}"
        f"{_number(timing.launch, 1e-6):>10}{_number(timing.first, 1):>9}"
        f"{'-' if timing.error is None else f'{timing.error:.0e}':>7}  {timing.note}".rstrip()
    )


def _number(value: float | None, unit: float) -> str:
    """Three digits of a value in a unit."""
    if value is None:
        return "-"
    number = value / unit
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--cases", default="", help="regular expression of the cases' names")
    parser.add_argument(
        "--seconds", type=float, default=1.2, help="of sampling for each implementation"
    )
    parser.add_argument(
        "--tune",
        action="store_true",
        help="choose launch configurations by timing; log them",
    )
    parser.add_argument("--out", type=Path, help="a JSON file for everything measured")
    arguments = parser.parse_args()
    try:
        re.compile(arguments.cases)
    except re.error as error:
        parser.error(f"--cases {arguments.cases!r} is no regular expression: {error}")
    out = arguments.out
    if out and (out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK)):
        parser.error(f"--out {out} cannot be written; name a file in a folder that exists")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device; use cpu or auto")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
