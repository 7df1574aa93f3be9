"""The machine's own limits, measured: a large matrix product and a large copy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from bench.measure.clock import Clock
from bench.registry import Format

ROUNDS = 5


class Ceilings(NamedTuple):
    """What the best call of torch's reaches here.

    Attributes:
        flops: a second, of a square matrix product.
        bytes: a second, read and written, of a copy.
    """

    flops: float
    bytes: float


def ceilings(clock: Clock, form: Format, device: str) -> Ceilings:
    """Measure both for a format on a kind of device.

    The products of tf32 are torch's own in tf32. Torch has none in tf32x3, which takes three in
    tf32 for each: its ceiling is a third of tf32's.
    """
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device).to(form.dtype) for _ in range(2))
    out = torch.empty_like(left)
    with multiplying("high" if form.name in ("tf32", "tf32x3") else "highest"):
        product = _fastest(clock, lambda: torch.mm(left, right, out=out))
    products = 3 if form.name == "tf32x3" else 1
    source = torch.zeros((1 << 30 if device == "cuda" else 1 << 27) // 4, device=device)
    target = torch.empty_like(source)
    copied = _fastest(clock, lambda: target.copy_(source))
    return Ceilings(2 * size**3 / (products * product), 2 * source.numel() * 4 / copied)


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """Let torch multiply float32 in a precision for a while: "high" is tf32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _fastest(clock: Clock, run: Callable[[], Tensor]) -> float:
    clock.first(run)
    return min(clock.hot(run, 3).device for _ in range(ROUNDS))
