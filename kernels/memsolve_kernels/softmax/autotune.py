"""Opt-in: with MEMSOLVE_AUTOTUNE=1 launch configurations are chosen by timing, once a process.

The presets are the default, since timing costs a compilation a candidate and its outcome, and so
the rounding of a result, may differ between runs.
"""

import itertools
import logging
import math
import os
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

import triton
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources

from memsolve_kernels.softmax.presets import Preset

ENABLED = os.environ.get("MEMSOLVE_AUTOTUNE") == "1"

Run = Callable[[Preset], object]
_chosen: dict[Hashable, Preset] = {}


def tuned(key: Hashable, preset: Preset, run: Run) -> Preset:
    """The fastest neighbour of `preset` for calls like `key`, or `preset` unless opted in."""
    if not ENABLED:
        return preset
    if key not in _chosen:
        _chosen[key] = min(neighbours(preset), key=lambda candidate: milliseconds(run, candidate))
        logging.getLogger(__name__).info("%s: %s", key, _chosen[key])
    return _chosen[key]


def neighbours(preset: Preset) -> Iterator[Preset]:
    """The preset, then variations of its tile, its warps and its pipeline."""
    yield preset
    sizes = [(preset.block_b, preset.block_n), (preset.block_b, preset.block_n // 2)]
    sizes += [(preset.block_b, preset.block_n * 2), (preset.block_b // 2, preset.block_n)]
    for (rows, items), warps, stages in itertools.product(sizes, (4, 8), (2, 3, 4)):
        candidate = replace(preset, block_b=rows, block_n=items, num_warps=warps, num_stages=stages)
        if min(rows, items) >= 16 and candidate != preset:
            yield candidate


def milliseconds(run: Run, preset: Preset) -> float:
    """Time of a call; infinite if the preset does not fit the processor or its partner."""
    try:
        return float(triton.testing.do_bench(lambda: run(preset), warmup=5, rep=20))
    except (OutOfResources, CompilationError, ValueError):
        return math.inf
