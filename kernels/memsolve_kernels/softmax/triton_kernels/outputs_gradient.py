# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The gradient by the outputs in a second pass, from the others' sum: 4BNd flops.

Queries and items are exchanged: a program holds a block of items and iterates over the queries. A
tile of queries gives logits, as keys, and is summed, as values. Each item's gradient belongs to one
program, and splits are summed in order, so that the result is deterministic. The queries are sorted
by target, so that few tiles have to look for targets. Tile sizes are exchanged too: `BLOCK_B` is a
number of items here, and `BLOCK_N` a number of queries.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.plan import LaunchConfig
from memsolve_kernels.softmax.triton_kernels.scratch import launch_by_chunks
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LOG2_E,
    load_block,
    load_targets,
)


class QueryWeights(NamedTuple):
    """Weights of the queries in the gradients of the outputs, in float32.

    Attributes:
        shift: (B,), the base-2 logarithm that the others' exponentials are relative to.
        factor: (B,), weight of a query's softmax, divided by the others' sum.
        own: (B,), weight of a query at its target.
        unit: (1,), the unit of factor, own and slope.
        slope: (B,), what the factor grows by with an item's logit, as the entropy needs it, or
            None: then the kernels load nothing for it.
    """

    shift: Tensor
    factor: Tensor
    own: Tensor
    unit: Tensor
    slope: Tensor | None = None

    @property
    def pairs(self) -> Tensor | None:
        """Factor and slope of each query in one int64 (B,), which a tile exchanges at once."""
        if self.slope is None:
            return None
        return torch.stack((self.factor, self.slope), 1).view(torch.int64)[:, 0]


@triton.jit
def weigh(logit, rows, shifts, factors, pairs, num_queries):
    """The weights of queries in the gradients of items, targets not considered."""
    shift = tl.load(shifts + rows, mask=rows < num_queries, other=0.0)
    if pairs is None:
        factor = tl.load(factors + rows, mask=rows < num_queries, other=0.0)[None, :]
    else:
        pair = tl.load(pairs + rows, mask=rows < num_queries, other=0)[None, :]
        factor = pair.to(tl.int32).to(tl.float32, bitcast=True)
        slope = (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True)
        factor = tl.fma(logit, slope, factor)
    return tl.exp2(logit * LOG2_E - shift[None, :]) * factor


@triton.jit
def weigh_own(weight, items, rows, targets, owns, num_queries, num_items):
    """The weights with `own` at the targets, whose exponentials may have overflowed."""
    target = load_targets(targets, rows, num_queries, num_items)
    own = tl.load(owns + rows, mask=rows < num_queries, other=0.0)
    return tl.where(items[:, None] == target[None, :], own[None, :], weight)


@triton.jit(do_not_specialize=COUNTS)
def outputs_kernel(
    queries, outputs, targets, bounds, shifts, factors, pairs, owns, unit, gradients,
    num_queries, num_items, stride_item, stride_dim, items_per_split,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr, BIAS_COLUMN: tl.constexpr,
):  # fmt: skip
    """The gradients of a block of items from one split of the queries, sorted by target.

    Queries are one in the column of a bias, if it is not negative: its gradient is the sum of
    weights that are not rounded.
    """
    items = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    columns = tl.arange(0, BLOCK_D)
    value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
    gradient = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)
    if BIAS_COLUMN >= 0:
        total = tl.zeros((BLOCK_B,), tl.float32)
    own_first, own_end = tl.load(bounds + tl.program_id(0)), tl.load(bounds + tl.program_id(0) + 1)

    first = tl.program_id(1) * items_per_split
    for start in range(first, min(first + items_per_split, num_queries), BLOCK_N):
        rows = start + tl.arange(0, BLOCK_N)
        query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)
        logit = tl.dot(value, tl.trans(query), input_precision=PRECISION)
        weight = weigh(logit, rows, shifts, factors, pairs, num_queries)
        if (start < own_end) & (start + BLOCK_N > own_first):
            weight = weigh_own(weight, items, rows, targets, owns, num_queries, num_items)
        if BIAS_COLUMN >= 0:
            total += tl.sum(weight, 1)
        weight = weight.to(query.dtype)
        gradient = tl.dot(weight, query, gradient, input_precision=PRECISION)

    if BIAS_COLUMN >= 0:
        gradient = tl.where((columns == BIAS_COLUMN)[None, :], total[:, None], gradient)
    slot = tl.program_id(1).to(tl.int64) * num_items + items
    inside = (items < num_items)[:, None] & (columns < DIM)[None, :]
    place = slot[:, None] * DIM + columns[None, :]
    tl.store(gradients + place, gradient * tl.load(unit), mask=inside)


@triton.jit(do_not_specialize=COUNTS)
def output_weights_kernel(
    queries, outputs, targets, shifts, factors, pairs, owns, weights, tops, totals,
    num_queries, num_items, stride_item, stride_dim, first_item, chunk,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr, HAS_TOTALS: tl.constexpr,
):  # fmt: skip
    """The weights of a tile in the scratch; `queries` are items here, and `outputs` queries."""
    items = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    places = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = first_item + places
    logit = tl.zeros((BLOCK_B, BLOCK_N), tl.float32)
    for column in range(0, DIM, BLOCK_D):
        columns = column + tl.arange(0, BLOCK_D)
        value = load_block(queries, items, num_queries, DIM, columns, 1, DIM)
        query = load_block(outputs, rows, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(value, tl.trans(query), logit, input_precision=PRECISION)
    weight = weigh(logit, rows, shifts, factors, pairs, num_items)
    weight = weigh_own(weight, items, rows, targets, owns, num_items, num_queries)
    slot = tl.program_id(1).to(tl.int64) * num_queries + items
    zero = tl.zeros((BLOCK_B,), tl.float32)
    tl.store(tops + slot, zero, mask=items < num_queries)
    total = tl.sum(weight, 1) if HAS_TOTALS else zero
    tl.store(totals + slot, total, mask=items < num_queries)
    place = items.to(tl.int64)[:, None] * chunk + places[None, :]
    weight = weight.to(weights.dtype.element_ty)
    tl.store(weights + place, weight, mask=(items < num_queries)[:, None])


def launch_outputs_gradient(
    outputs: Tensor,
    queries: Tensor,
    targets: Tensor,
    weights: QueryWeights,
    bias_column: int | None,
    config: LaunchConfig,
) -> Tensor:
    """The gradient (N, d) in float32; all but the outputs contiguous, and the targets sorted."""
    (num_items, dim), block_b = outputs.shape, config.tile.block_b
    edges = torch.arange(0, num_items + block_b, block_b, device=targets.device)
    bounds = torch.searchsorted(targets, edges)
    gradients = outputs.new_empty(config.splits, num_items, dim, dtype=torch.float32)
    launch(
        outputs_kernel, config.grid(num_items), **config.tile.compiler_options,
        queries=queries, outputs=outputs, targets=targets, bounds=bounds,
        shifts=weights.shift, factors=weights.factor, pairs=weights.pairs,
        owns=weights.own, unit=weights.unit,
        BIAS_COLUMN=-1 if bias_column is None else bias_column,
        gradients=gradients, items_per_split=config.items_per_split(len(queries)),
        **config.arguments(queries, outputs),
    )  # fmt: skip
    return gradients[0] if config.splits == 1 else gradients.sum(0)


def outputs_gradient_by_scratch(
    outputs: Tensor,
    queries: Tensor,
    targets: Tensor,
    weights: QueryWeights,
    bias_column: int | None,
    weigh: LaunchConfig,
    add: LaunchConfig,
) -> Tensor:
    """Like `launch_outputs_gradient`, for any d; outputs contiguous, targets in any order."""
    inputs: dict[str, Any] = {"queries": outputs, "targets": targets}
    inputs |= {"shifts": weights.shift, "factors": weights.factor, "pairs": weights.pairs}
    inputs |= {"owns": weights.own, "HAS_TOTALS": bias_column is not None}
    partial = launch_by_chunks(output_weights_kernel, inputs, queries, weigh, add)
    gradient = partial.sums.sum(0)
    if bias_column is not None:
        gradient[:, bias_column] = partial.total.sum(0)
    return gradient.mul_(weights.unit)
