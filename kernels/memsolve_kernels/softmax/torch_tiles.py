"""Tiles of logits, which the torch backend computes one at a time.

A tile of logits is written by one matrix product, exponentiated in place, and read by the next.
On a CPU it should stay in cache, but be large enough to start two threads for each of about eight
operations: 1024 queries x 1024 items in float32 are 4 MiB. On a GPU launches cost more than memory
traffic, so tiles have up to 64 MiB. Outputs that a product cannot read directly are converted a
tile at a time as well.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.softmax.interface import elements_at_once

LOG2_E = math.log2(math.e)
ROWS = 1024  # largest number of queries in a tile
MIN_ITEMS = 256  # smallest number of items in a tile


class Tile(NamedTuple):
    """Logits of some queries and items.

    Attributes:
        values: (T, d), the tile's outputs in the dtype of the sums; valid until the next tile.
        logits: (R, T), a buffer that the next tile reuses; -inf at the targets.
        items: positions of the tile's items.
        own: rows and columns of the targets.
    """

    values: Tensor
    logits: Tensor
    items: slice
    own: tuple[Tensor, Tensor]


def iterate_tiles(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    items: int | None = None,
    factor: float = 1.0,
) -> Iterator[Tile]:
    """`factor` times the logits of every item, a tile at a time, with -inf at the targets.

    Args:
        queries: (R, d), in the dtype of the sums.
        outputs: (N, d).
        targets: (R,), positions in the outputs; one outside of them is none.
        items: in a tile; by default, what suits the device.
        factor: of the logits.
    """
    (num_queries, dim), num_items = queries.shape, outputs.shape[0]
    left, unit = queries * factor if factor != 1 else queries, 1.0
    if factor != 1 and not math.isfinite(left.sum()):  # some are near the largest number
        left, unit = queries * (factor / 4), 4.0
    items = items or items_in_tile(queries, outputs)
    starts = range(0, num_items, items)
    ordered, order = targets.sort()
    edges = torch.tensor([*starts, num_items], device=targets.device)
    bounds = torch.searchsorted(ordered, edges).tolist()
    width = min(items, num_items)
    buffer = queries.new_empty(num_queries * width)
    converted = None if _is_operand(outputs, queries) else queries.new_empty(width, dim)
    for tile, start in enumerate(starts):
        values = outputs[start : start + items]
        if converted is not None:
            values = converted[: values.shape[0]].copy_(values)
        shape = num_queries, values.shape[0]
        logits = buffer[: math.prod(shape)].view(shape)
        torch.mm(left, values.T, out=logits)
        if unit != 1:
            logits.mul_(unit)
        own = slice(bounds[tile], bounds[tile + 1])
        positions = order[own], ordered[own] - start
        logits[positions] = -torch.inf
        yield Tile(values, logits, slice(start, start + items), positions)


def items_in_tile(queries: Tensor, outputs: Tensor) -> int:
    """Items whose logits, and outputs if converted, have at most `elements_at_once`."""
    rows = queries.shape[0] if _is_operand(outputs, queries) else max(queries.shape)
    return max(MIN_ITEMS, elements_at_once(queries.device) // max(rows, 1))


def _is_operand(outputs: Tensor, queries: Tensor) -> bool:
    """Whether a product with the queries reads the outputs without a copy."""
    (items, dim), (along_items, along_dim) = outputs.shape, outputs.stride()
    readable = (along_dim == 1 and along_items >= dim) or (along_items == 1 and along_dim >= items)
    return readable and outputs.dtype == queries.dtype


def row_blocks(queries: Tensor) -> Iterator[slice]:
    """Blocks of queries that have tiles together."""
    return (slice(start, start + ROWS) for start in range(0, queries.shape[0], ROWS))
