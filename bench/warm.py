"""Compile what a GPU is to be timed on before the clock starts, on all cores.

Processes call what is compiled once, case by case, and throw the results away: Triton and torch
keep what they compile on disk, where the process that times finds it.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context

from bench.cases import CASES
from bench.registry import OURS, Case

COMPILED = OURS, "torch.compile"
MOST_PROCESSES = 8  # each holds a case's inputs and half a GB of CUDA's own


def warm(cases: Iterable[Case]) -> None:
    """Call every way that compiles in other processes; what fails here fails again in its row."""
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    ways = [(case.name, way) for case in cases for way in COMPILED]
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    with suppress(BrokenProcessPool), pool:
        list(pool.map(called, *zip(*ways, strict=True)))


def called(case: str, way: str) -> None:
    """Call a way of a case once, both by name, as they are sent to a process."""
    (found,) = (each for each in CASES if each.name == case)
    for each in found.function.ways:
        if each.name == way:
            with suppress(Exception):
                each.prepare(found.inputs())()
