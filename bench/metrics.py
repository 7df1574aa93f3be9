"""Metrics without a clock: what optimizers store, and what kernels compile to.

They are the same at every run. asv follows them over commits, and the gate compares two.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from bench.repository import ROOT

Metrics = dict[str, dict[str, float]]

ALPHA = 2.0  # small singular values matter most here, and with them any loss of accuracy
DIMS = (32, 64, 128)
SEEDS = 3
OPTIMIZERS = ("sgd", "muon", "newton")
STORAGE_UNITS = {
    "recovered": "items (higher is better)",
    "weights_per_item": "weights",
    "saturation_batch_size": "items (higher is better)",
    "weights_per_drawn_item": "weights",
    "capacity_shortfall": "exponent",
    "saturation_shortfall": "exponent",
}
COMPILED_UNITS = {
    "registers": "registers/thread",
    "stack": "bytes/thread",  # of spilled registers
    "shared": "bytes/block",
    "code": "bytes",
    "tensor": "instructions",
    "blocks": "blocks (higher is better)",  # that fit a processor at once
    "issue": "cycles/iteration",  # this and the following of the main loop
    "float": "cycles/iteration",
    "integer": "cycles/iteration",
    "special": "cycles/iteration",
    "unpacked": "instructions/iteration",
    "waits": "waits/iteration",
    "products": "multiply-adds/iteration (higher is better)",
    "overlap": "cycles/iteration",
    "serial": "cycles/iteration",
}


def storage_metrics(dims: Sequence[int] = DIMS, seeds: int = SEEDS) -> Metrics:
    """By optimizer: recovered items and saturation batch size at the largest `d`, and exponents.

    Saturation, which takes a run for every batch size, is studied at half of each `d`. asv takes
    lower for better: `weights_per_item` is `d^2 / recovered`, `weights_per_drawn_item` is `d^2`
    over the saturation batch size, and a `shortfall` is an exponent's distance from that of the
    limit, `d^2` items, which fill a batch of `d^(2 alpha)`. NaN where not identified.

    Raises:
        ImportError: the package under test has no studies.
    """
    from memsolve.study import Grid, capacity, saturation

    def fits(study: Any, dims: Sequence[int]) -> list[dict[str, Any]]:
        grid = Grid(OPTIMIZERS, alphas=[ALPHA], seeds=seeds, device="cpu", dims=dims)
        result: list[dict[str, Any]] = _run(study, grid).as_json()["fits"]
        return result

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # or sums, and an item at the edge, would depend on it
    try:
        pairs = zip(fits(capacity, dims), fits(saturation, [d // 2 for d in dims]), strict=True)
        return {fit["optimizer"]: _storage(fit, other) for fit, other in pairs}
    finally:
        torch.set_num_threads(threads)


def _run(study: Any, grid: Any) -> Any:
    """The summary of a study; before `memsolve.run` a study was called."""
    import memsolve

    run = getattr(memsolve, "run", None)
    return study(grid) if run is None else run(study, grid)


def _storage(capacity: dict[str, Any], saturation: dict[str, Any]) -> dict[str, float]:
    largest, half = capacity["points"][-1], saturation["points"][-1]
    recovered = sum(largest["recovered"]) / len(largest["recovered"])
    batch_size = _number(half["value"])
    return {
        "recovered": recovered,
        "weights_per_item": largest["dim"] ** 2 / recovered if recovered else float("inf"),
        "saturation_batch_size": batch_size,
        "weights_per_drawn_item": half["dim"] ** 2 / batch_size,
        "capacity_shortfall": 2 - _number(capacity["exponent"]),
        "saturation_shortfall": 2 * ALPHA - _number(saturation["exponent"]),
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def compiled_metrics(architectures: Sequence[int] | None = None) -> Metrics:
    """By `"variant sm_90"`: what each kernel in the package under test compiles to.

    Args:
        architectures: by number, as 90; None takes all that have presets.

    Raises:
        ImportError: the package compiles nothing, or counts no main loop.
    """
    from memsolve_kernels.architectures import COMPILED
    from memsolve_kernels.compiled import everywhere, profile

    return {
        f"{variant.name} sm_{arch}": profile_metrics(entry)
        for arch, variant, entry in everywhere(profile, architectures or sorted(COMPILED))
    }


def profile_metrics(profile: Any) -> dict[str, float]:
    """The metrics of one `memsolve_kernels.compiled.Profile`, as many as the package counts."""
    loop = profile.loop
    counts = {name: getattr(loop, name) for name in COMPILED_UNITS if hasattr(loop, name)}
    values = {**loop.cycles, **vars(profile), **counts}
    return {name: values[name] for name in COMPILED_UNITS if name in values}


@cache
def variant_labels() -> tuple[str, ...]:
    """Labels of every variant in the working tree, whatever package is under test.

    asv refers to a parameter by its position in the suite, so the list has to be the same on
    every commit; another process reads it, because in this one the package may be an older one.
    """
    script = "from bench.metrics import local_labels; print(*local_labels(), sep='\\n')"
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    process = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return tuple(process.stdout.splitlines())


def local_labels() -> list[str]:
    """Labels of every variant in the package under test."""
    from memsolve_kernels.architectures import COMPILED
    from memsolve_kernels.compiled import variants

    return [f"{variant.name} sm_{arch}" for arch in sorted(COMPILED) for variant in variants(arch)]
