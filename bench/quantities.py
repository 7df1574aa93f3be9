"""What optimizers store, as numbers that are the same at every run: no clock is involved."""

from typing import Any

import torch

from bench.registry import lookup

ALPHA = 1.5
DIMS = (16, 32, 64)
SEEDS = 3
OPTIMIZERS = ("sgd", "muon", "newton")
HIGHER_IS_BETTER = "recovered", "saturation_batch_size"

Quantities = dict[str, dict[str, float]]


def quantities(dims: tuple[int, ...] = DIMS, seeds: int = SEEDS) -> Quantities:
    """By optimizer: items stored and saturation batch size at the largest `d`, and the exponents.

    Each has a falling one beside it, for asv, which takes lower for better:
    `weights_per_item` is `d^2 / recovered`, `weights_per_drawn_item` is `d^2` over the saturation
    batch size, and each `shortfall` is the exponent's distance from that of the limit of any
    optimizer, `d^2` items, which fill a batch of `d^(2 alpha)`. NaN where not identified.

    Raises:
        Unsupported: the package under test has no studies.
    """
    grid = lookup("memsolve.study:Grid")
    studies = [lookup(f"memsolve.study:{name}") for name in ("capacity", "saturation")]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # or sums, and an item at the edge, would depend on it
    try:
        made = grid(OPTIMIZERS, alphas=[ALPHA], dims=dims, seeds=seeds, device="cpu")
        summaries = [study(made) for study in studies]
    finally:
        torch.set_num_threads(threads)
    pairs = zip(*(summary.fits for summary in summaries), strict=True)
    return {capacity.optimizer: _of(capacity, saturation) for capacity, saturation in pairs}


def _of(capacity: Any, saturation: Any) -> dict[str, float]:
    dim = capacity.points[-1]["dim"]
    counts = capacity.points[-1]["recovered"]
    recovered = sum(counts) / len(counts)
    saturates = _number(saturation.points[-1]["value"])
    exponents = _number(capacity.estimate.value), _number(saturation.estimate.value)
    return {
        "recovered": recovered,
        "weights_per_item": dim**2 / recovered if recovered else float("inf"),
        "saturation_batch_size": saturates,
        "weights_per_drawn_item": dim**2 / saturates,
        "capacity_exponent": exponents[0],
        "capacity_shortfall": 2 - exponents[0],
        "saturation_exponent": exponents[1],
        "saturation_shortfall": 2 * ALPHA - exponents[1],
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
