"""The frequencies of items, and batches drawn from them."""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor

from memsolve.embeddings import size_errors


class Batch(NamedTuple):
    """A batch as distinct items with weights; its cost grows with `B^(1/alpha)`, not `B` (derived).

    Attributes:
        items: (U,) int64, increasing; item 0 has rank 1, the most frequent.
        weights: (U,) in the memory's dtype, `count / B` or the frequencies; they sum to 1.
    """

    items: Tensor
    weights: Tensor


def power_law(num_items: int, alpha: float) -> Tensor:
    """Frequencies `p_i = i^-alpha / Z`, (N,) float64, rank 1 first.

    Raises:
        RangeError: `alpha` is not above 1, or so large that the smallest frequency underflows.
    """
    if not (isinstance(alpha, Real) and 1 < alpha < float("inf")):
        raise RangeError(f"alpha is {alpha!r}; expected a finite number above 1")
    if float(num_items) ** -alpha < torch.finfo(torch.float64).tiny:
        raise RangeError(
            f"alpha is {alpha}: the frequency of item {num_items} underflows; "
            "choose a smaller alpha or fewer items"
        )
    with size_errors(f"{num_items} frequencies"):
        frequencies = torch.arange(1, num_items + 1, dtype=torch.float64) ** -alpha
    return frequencies / frequencies.sum()


def draw(frequencies: Tensor, batch_size: int, generator: torch.Generator | None) -> Batch:
    """A batch of `batch_size` items, i.i.d. from frequencies (N,) float64, on the CPU.

    The counts of all items are one multinomial draw, so the cost is of order `N` for any batch
    size.
    """
    check_at_least_one("batch_size", batch_size)
    if batch_size > 1 << 62:
        raise RangeError(f"batch_size is {batch_size}; expected at most 2^62")
    seed = torch.randint(2**63 - 1, (), generator=generator)
    counts = np.random.default_rng(int(seed)).multinomial(batch_size, frequencies.numpy())
    (items,) = np.nonzero(counts)
    return Batch(torch.from_numpy(items), torch.from_numpy(counts[items] / batch_size))


def check_at_least_one(name: str, value: int) -> None:
    """Raise RangeError unless a value is an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise RangeError(f"{name} is {value!r}; expected an integer of at least 1")
