"""What every preset compiles to, without a GPU: of a commit, and the names in the working tree."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from bench.registry import Unsupported, lookup
from bench.repository import ROOT

METRICS = (
    *("registers", "stack", "shared", "code", "tensor", "blocks"),  # of the whole kernel
    *("issue", "float", "integer", "special", "unpacked", "waits"),  # of its main loop
    *("products", "overlap", "serial"),
)

Compiled = dict[str, dict[str, float]]


def compiled(architectures: Sequence[int] | None = None) -> Compiled:
    """By `"variant sm_90"`: its metrics, in the package under test.

    Args:
        architectures: by number, as 90; None takes all that have presets.

    Raises:
        Unsupported: the package compiles nothing.
    """
    return {
        f"{variant.name} sm_{arch}": metrics(read)
        for arch, variant, read in _resources(architectures or _architectures())
    }


@cache
def labels() -> tuple[str, ...]:
    """Labels of every variant in the working tree, whatever package is under test.

    asv refers to a parameter by its position in the suite, so the list has to be the same on
    every commit; another process reads it, because in this one the package may be an older one.
    """
    script = "from bench.compiled import names; print(*names(), sep='\\n')"
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return tuple(done.stdout.splitlines())


def names() -> list[str]:
    """Labels of every variant in the package under test."""
    variants = lookup("memsolve_kernels.compiled:variants")
    return [f"{variant.name} sm_{arch}" for arch in _architectures() for variant in variants(arch)]


def _architectures() -> list[int]:
    """Those with presets of their own."""
    try:
        return sorted(lookup("memsolve_kernels.architectures:COMPILED"))
    except Unsupported:  # before it, a list
        return sorted(lookup("memsolve_kernels.compiled:ARCHITECTURES"))


def _resources(architectures: Iterable[int]) -> Iterator[tuple[int, Any, Any]]:
    """Each architecture, variant and what it compiles to."""
    package = "memsolve_kernels.compiled"
    try:
        everywhere, profile = (lookup(f"{package}:{name}") for name in ("everywhere", "profile"))
    except Unsupported:  # before them, without a count of the main loop
        yield from lookup(f"{package}:all_resources")(architectures)
    else:
        yield from everywhere(profile, architectures)


def metrics(read: Any) -> dict[str, float]:
    """What a package tells of one binary, as many of the metrics as it knows."""
    told = dict(vars(read))
    if (loop := told.pop("loop", None)) is not None:
        told = (
            loop.cycles
            | told
            | {name: getattr(loop, name) for name in METRICS if hasattr(loop, name)}
        )
    return {name: told[name] for name in METRICS if name in told}
