"""How many rows are looked at or converted at a time, so that no pass makes a copy of all.

Reductions of torch convert a whole tensor first where its dtype is not that of the sum, and copy
one that is not contiguous where a product cannot read its strides.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def elements_at_once(device: torch.device) -> int:
    """Elements of a tile: 4 MiB in float32 on a CPU, whose caches hold it, else 64 MiB."""
    return 2**20 if device.type == "cpu" else 2**24


def in_parts(rows: Tensor) -> tuple[Tensor, ...]:
    """Views of the rows (R, ...), as many at a time as a tile has elements for."""
    elements = elements_at_once(rows.device)
    if rows.numel() <= elements:
        return (rows,)
    return torch.split(rows, max(1, elements // math.prod(rows.shape[1:])))


def in_parts_of(rows: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """The rows (R, ...) in another dtype, a part at a time; the next part takes its memory.

    With memory of its own for each part, the heap of glibc grows by all of them, though each is
    freed before the next: what is freed is a little too small for the next aligned block.
    """
    parts = in_parts(rows)
    if rows.dtype == dtype:
        yield from parts
        return
    buffer = rows.new_empty(parts[0].shape, dtype=dtype)
    for part in parts:
        yield buffer[: part.shape[0]].copy_(part)
