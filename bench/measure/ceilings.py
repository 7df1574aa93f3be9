"""The machine's own limits, measured: a large matrix product and a large copy."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.measure.clock import Clock

ROUNDS = 5


class Ceilings(NamedTuple):
    """What the best call of torch's reaches here.

    Attributes:
        flops: a second, of a square matrix product.
        bytes: a second, read and written, of a copy.
    """

    flops: float
    bytes: float


def ceilings(clock: Clock, dtype: torch.dtype, device: str) -> Ceilings:
    """Measure both for a dtype on a kind of device."""
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    product = _fastest(clock, lambda: torch.mm(left, right, out=out))
    source = torch.zeros((1 << 30 if device == "cuda" else 1 << 27) // 4, device=device)
    target = torch.empty_like(source)
    copied = _fastest(clock, lambda: target.copy_(source))
    return Ceilings(2 * size**3 / product, 2 * source.numel() * 4 / copied)


def _fastest(clock: Clock, run: Callable[[], Tensor]) -> float:
    clock.first(run)
    return min(clock.hot(run, 3).device for _ in range(ROUNDS))
