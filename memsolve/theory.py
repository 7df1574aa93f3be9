"""The predicted laws: exponents in `d` of what one step from `W = 0` stores.

Source: Kim, Nichani, Wu, Bietti, Lee, *Sharp Capacity Scaling of Spectral Optimizers in Learning
Associative Memory*, arXiv 2603.26554. All laws hold up to constants and logarithms. `STATUS`
says of each whether the paper states it (published) or this project derived it from the model
(derived: the signal `i^-alpha` of an item against the interference `d^(-1/2)` of the most
frequent one).
"""

from typing import Literal

import torch
from torch import Tensor

Quantity = Literal["recovered", "saturation_batch_size"]

STATUS: dict[tuple[str, Quantity], str] = {
    ("sgd", "recovered"): "derived",
    ("sgd", "saturation_batch_size"): "derived",
    ("muon", "recovered"): "published",
    ("muon", "saturation_batch_size"): "published",
    ("newton", "recovered"): "published",
    ("newton", "saturation_batch_size"): "derived",
}


def exponent(optimizer: str, quantity: Quantity, alpha: float) -> float | None:
    """Exponent `e` of the law `quantity ~ d^e`, or None where there is no law.

    The number recovered from the population gradient grows as `d^(1/(2 alpha))` for SGD and as
    `d^(1 + 1/(2 alpha))` for Muon and Newton. A batch of size `B` holds about `B^(1/alpha)`
    distinct items, so the batch size where the two meet has `alpha` times that exponent:
    1/2 for SGD, `alpha + 1/2` for Muon and Newton.

    Args:
        optimizer: "sgd", "muon" or "newton"; any other name has no law.
        quantity: "recovered" or "saturation_batch_size".
        alpha: exponent of the frequencies, above 1.
    """
    if (optimizer, quantity) not in STATUS:
        return None
    recovered = 1 / (2 * alpha) + (optimizer != "sgd")
    return recovered if quantity == "recovered" else alpha * recovered


def expected_distinct_items(frequencies: Tensor, batch_sizes: Tensor) -> Tensor:
    """Expected number of distinct items in a batch, `D(B) = sum_i 1 - (1 - p_i)^B` (derived).

    No step recovers more than it has seen, so this is the ceiling of every optimizer at small
    batches. It grows as `Gamma(1 - 1/alpha) (B / zeta(alpha))^(1/alpha)` once `B` is large.

    Args:
        frequencies: (N,) float64, sums to 1.
        batch_sizes: (K,) float64, `B >= 1`, not necessarily whole.

    Returns:
        (K,) float64.
    """
    missed = torch.log1p(-frequencies)
    return torch.stack([-torch.expm1(size * missed).sum() for size in batch_sizes])
