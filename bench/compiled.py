"""What every preset compiles to, without a GPU: of a commit, and the names in the working tree."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from bench.registry import lookup

ROOT = Path(__file__).parents[1]
METRICS = ("registers", "stack", "shared", "code", "tensor")
ARCHITECTURES = (80, 90, 100)

Compiled = dict[str, dict[str, int]]


def compiled(architectures: tuple[int, ...] = ARCHITECTURES) -> Compiled:
    """By `"variant sm_90"`: its metrics, in the package under test.

    Raises:
        Unsupported: the package compiles nothing.
    """
    variants = lookup("memsolve_kernels.compiled:variants")
    resources = lookup("memsolve_kernels.compiled:resources")
    found = {}
    for arch in architectures:
        for variant in variants(arch):
            read = resources(variant, arch)
            found[label(variant.name, arch)] = {name: getattr(read, name) for name in METRICS}
    return found


@cache
def labels() -> tuple[str, ...]:
    """Labels of every variant in the working tree, whatever package is under test.

    asv refers to a parameter by its position in the suite, so the list has to be the same on
    every commit; another process reads it, because in this one the package may be an older one.
    """
    script = (
        "from memsolve_kernels.compiled import variants\n"
        f"for arch in {ARCHITECTURES}:\n"
        "    for variant in variants(arch):\n"
        "        print(variant.name, arch, sep='\\t')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "kernels")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        return ()
    lines = (line.split("\t") for line in done.stdout.splitlines())
    return tuple(label(name, int(arch)) for name, arch in lines)


def label(variant: str, arch: int) -> str:
    """How a variant on an architecture is called in tables and histories."""
    return f"{variant} sm_{arch}"
