"""What optimizers store, as numbers that are the same at every run: no clock is involved."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from bench.registry import lookup

ALPHA = 2.0  # small singular values matter most here, and with them any loss of accuracy
DIMS = (32, 64, 128)
SEEDS = 3
OPTIMIZERS = ("sgd", "muon", "newton")
UNITS = {
    "recovered": "items (higher is better)",
    "weights_per_item": "weights",
    "saturation_batch_size": "items (higher is better)",
    "weights_per_drawn_item": "weights",
    "capacity_exponent": "exponent (higher is better)",
    "capacity_shortfall": "exponent",
    "saturation_exponent": "exponent (higher is better)",
    "saturation_shortfall": "exponent",
}

Quantities = dict[str, dict[str, float]]


def quantities(dims: Sequence[int] = DIMS, seeds: int = SEEDS) -> Quantities:
    """By optimizer: items stored and saturation batch size at the largest `d`, and the exponents.

    Saturation, which takes a run for every batch size, is studied at half of each `d`. Each number
    has a falling one beside it, for asv, which takes lower for better: `weights_per_item` is
    `d^2 / recovered`, `weights_per_drawn_item` is `d^2` over the saturation batch size, and each
    `shortfall` is the exponent's distance from that of the limit of any optimizer, `d^2` items,
    which fill a batch of `d^(2 alpha)`. NaN where not identified.

    Raises:
        Unsupported: the package under test has no studies.
    """
    grid = lookup("memsolve.study:Grid")
    capacity, saturation = (lookup(f"memsolve.study:{name}") for name in ("capacity", "saturation"))
    made = partial(grid, OPTIMIZERS, alphas=[ALPHA], seeds=seeds, device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # or sums, and an item at the edge, would depend on it
    try:
        stored = capacity(made(dims=dims)).as_json()["fits"]
        saturated = saturation(made(dims=[dim // 2 for dim in dims])).as_json()["fits"]
    finally:
        torch.set_num_threads(threads)
    return {fit["optimizer"]: _of(fit, other) for fit, other in zip(stored, saturated, strict=True)}


def _of(capacity: dict[str, Any], saturation: dict[str, Any]) -> dict[str, float]:
    largest, half = capacity["points"][-1], saturation["points"][-1]
    recovered = sum(largest["recovered"]) / len(largest["recovered"])
    saturates = _number(half["value"])
    exponents = _number(capacity["exponent"]), _number(saturation["exponent"])
    return {
        "recovered": recovered,
        "weights_per_item": largest["dim"] ** 2 / recovered if recovered else float("inf"),
        "saturation_batch_size": saturates,
        "weights_per_drawn_item": half["dim"] ** 2 / saturates,
        "capacity_exponent": exponents[0],
        "capacity_shortfall": 2 - exponents[0],
        "saturation_exponent": exponents[1],
        "saturation_shortfall": 2 * ALPHA - exponents[1],
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
