# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The passes where d is too large for a weighted sum of outputs to stay on chip.

For each chunk of items one kernel writes the weights of all its items into a fixed scratch, as a
matrix product with an exponential epilogue, and a second kernel multiplies them with the outputs:
4BNd flops for the log-odds and 6BNd for the covariance, as in one pass, and a few bytes a weight.

Weights are relative to the maximum of their own tile, rounded to a power of two. The second kernel
reads the maxima of the chunk before it starts, and so scales each tile once, exactly, and its
accumulator once per chunk.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.partials import HvpContext, WeightedPartial
from memsolve_kernels.softmax.plan import LaunchConfig
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LOG2_E,
    LOWEST,
    leave_out,
    load_block,
    load_targets,
)

SCRATCH_BYTES = 64 * 2**20
MAX_TILES = 2**16 - 1  # of a chunk: CUDA's limit on the second direction of a grid


@triton.jit(do_not_specialize=COUNTS)
def weights_kernel(
    queries, outputs, targets, weights, tops, totals,
    num_queries, num_items, stride_item, stride_dim, first_item, chunk,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """`exp2(logit - top)` of one tile of a chunk, and its rows' maxima and sums."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    places = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    items = first_item + places
    target = load_targets(targets, rows, num_queries, num_items)
    logit = tl.zeros((BLOCK_B, BLOCK_N), tl.float32)
    for column in range(0, DIM, BLOCK_D):
        columns = column + tl.arange(0, BLOCK_D)
        query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)
        value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(query, tl.trans(value), logit, input_precision=PRECISION)
    logit = leave_out(logit, items, num_items, target)
    top = tl.maximum(tl.ceil(tl.max(logit, 1) * LOG2_E), LOWEST)
    weight = tl.exp2(logit * LOG2_E - top[:, None])
    slot = tl.program_id(1).to(tl.int64) * num_queries + rows
    tl.store(tops + slot, top, mask=rows < num_queries)
    tl.store(totals + slot, tl.sum(weight, 1), mask=rows < num_queries)
    place = rows.to(tl.int64)[:, None] * chunk + places[None, :]
    weight = weight.to(weights.dtype.element_ty)
    tl.store(weights + place, weight, mask=(rows < num_queries)[:, None])


@triton.jit(do_not_specialize=COUNTS)
def centred_weights_kernel(
    queries, directions, outputs, targets, shifts, centers, weights, tops, totals,
    num_queries, num_items, stride_item, stride_dim, first_item, chunk,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """`exp2(logit - shift) (along - center)` of one tile, and the sums of the exponentials."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    places = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    items = first_item + places
    target = load_targets(targets, rows, num_queries, num_items)
    shift = tl.load(shifts + rows, mask=rows < num_queries, other=0.0)
    center = tl.load(centers + rows, mask=rows < num_queries, other=0.0)
    logit = tl.zeros((BLOCK_B, BLOCK_N), tl.float32)
    along = tl.zeros((BLOCK_B, BLOCK_N), tl.float32)
    for column in range(0, DIM, BLOCK_D):
        columns = column + tl.arange(0, BLOCK_D)
        query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)
        direction = load_block(directions, rows, num_queries, DIM, columns, 1, DIM)
        value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(query, tl.trans(value), logit, input_precision=PRECISION)
        along = tl.dot(direction, tl.trans(value), along, input_precision=PRECISION)
    logit = leave_out(logit, items, num_items, target)
    weight = tl.exp2(logit * LOG2_E - shift[:, None])
    slot = tl.program_id(1).to(tl.int64) * num_queries + rows
    tl.store(tops + slot, tl.zeros((BLOCK_B,), tl.float32), mask=rows < num_queries)
    tl.store(totals + slot, tl.sum(weight, 1), mask=rows < num_queries)
    weight = (weight * (along - center[:, None])).to(weights.dtype.element_ty)
    place = rows.to(tl.int64)[:, None] * chunk + places[None, :]
    tl.store(weights + place, weight, mask=(rows < num_queries)[:, None])


@triton.jit(do_not_specialize=COUNTS)
def accumulate_kernel(
    weights, tile_tops, tile_totals, outputs, tops, totals, next_tops, next_totals, sums,
    num_queries, num_items, stride_item, stride_dim, first_item, chunk, tiles_per_split,
    DIM: tl.constexpr, TILE: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one split of a chunk to the weighted sums, all relative to the maximum so far."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = rows < num_queries
    slot = tl.program_id(2).to(tl.int64) * num_queries + rows
    first_tile = tl.program_id(2) * tiles_per_split
    last_tile = min(first_tile + tiles_per_split, chunk // TILE)

    before = tl.load(tops + slot, mask=inside, other=LOWEST)
    top = before
    for tile in range(first_tile, last_tile):
        part = tile * num_queries + rows
        top = tl.maximum(top, tl.load(tile_tops + part, mask=inside, other=LOWEST))
    decay = tl.exp2(before - top)
    total = tl.load(totals + slot, mask=inside, other=0.0) * decay
    for tile in range(first_tile, last_tile):
        part = tile * num_queries + rows
        scale = tl.exp2(tl.load(tile_tops + part, mask=inside, other=LOWEST) - top)
        total += scale * tl.load(tile_totals + part, mask=inside, other=0.0)
    block = inside[:, None] & (columns < DIM)[None, :]
    state = sums + slot[:, None] * DIM + columns[None, :]
    weighted = tl.load(state, mask=block, other=0.0) * decay[:, None]

    lines = weights + rows.to(tl.int64)[:, None] * chunk  # each of whose elements is written
    for place in range(first_tile * TILE, last_tile * TILE, BLOCK_N):
        part = (place // TILE) * num_queries + rows
        scale = tl.exp2(tl.load(tile_tops + part, mask=inside, other=LOWEST) - top)
        scale = scale.to(weights.dtype.element_ty)  # a power of two: the product is exact
        places = place + tl.arange(0, BLOCK_N)
        weight = tl.load(lines + places[None, :], mask=inside[:, None], other=0.0)
        value = load_block(
            outputs, first_item + places, num_items, stride_item, columns, stride_dim, DIM
        )
        weight *= scale[:, None]
        weighted = tl.dot(weight, value, weighted, input_precision=PRECISION)

    tl.store(state, weighted, mask=block)
    if tl.program_id(1) == 0:
        tl.store(next_tops + slot, top, mask=inside)
        tl.store(next_totals + slot, total, mask=inside)


def odds_by_scratch(
    queries: Tensor, outputs: Tensor, targets: Tensor, weigh: LaunchConfig, add: LaunchConfig
) -> WeightedPartial:
    """One part per split, in float32; queries and targets are contiguous."""
    inputs = {"queries": queries, "targets": targets}
    return launch_by_chunks(weights_kernel, inputs, outputs, weigh, add)


def covariance_by_scratch(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    context: HvpContext,
    weigh: LaunchConfig,
    add: LaunchConfig,
) -> WeightedPartial:
    """One part per split, in float32; queries, targets and context are contiguous."""
    inputs = {"queries": queries, "targets": targets, "directions": context.directions}
    inputs |= {"shifts": context.shift, "centers": context.center}
    partial = launch_by_chunks(centred_weights_kernel, inputs, outputs, weigh, add)
    return partial._replace(top=context.shift.expand(add.splits, -1))


def launch_by_chunks(
    kernel: Any,
    inputs: dict[str, Any],
    outputs: Tensor,
    weigh: LaunchConfig,
    add: LaunchConfig,
) -> WeightedPartial:
    """For each chunk of items, launch `kernel` to weigh it, and then add it to the sums."""
    block_n = weigh.tile.block_n
    if block_n % add.tile.block_n:
        raise ValueError(f"tiles of {block_n} items cannot be added {add.tile.block_n} at once")
    queries, num_items, splits = inputs["queries"], len(outputs), add.splits
    batch, dim = queries.shape
    fitting = SCRATCH_BYTES // (batch * queries.element_size() * block_n)
    tiles_per_chunk = max(1, min(triton.cdiv(num_items, block_n), MAX_TILES, fitting))
    weights = queries.new_empty(batch * tiles_per_chunk * block_n)
    empty = queries.new_empty(0, dtype=torch.float32)
    tile_tops, tile_totals = empty.new_empty(2, tiles_per_chunk, batch)
    # the state of each split before and after a chunk, in turns
    top, next_top = empty.new_full((2, splits, batch), LOWEST.value)
    total, next_total = empty.new_zeros(2, splits, batch)
    sums = empty.new_zeros(splits, batch, dim)
    for first in range(0, num_items, tiles_per_chunk * block_n):
        tiles = min(tiles_per_chunk, triton.cdiv(num_items - first, block_n))
        chunk = {
            "outputs": outputs, "weights": weights,
            "first_item": first, "chunk": tiles * block_n,
        }  # fmt: skip
        launch(
            kernel, (triton.cdiv(batch, weigh.tile.block_b), tiles), **weigh.tile.compiler_options,
            tops=tile_tops, totals=tile_totals, **inputs, **chunk,
            **weigh.arguments(queries, outputs),
        )  # fmt: skip
        launch(
            accumulate_kernel,
            (triton.cdiv(batch, add.tile.block_b), triton.cdiv(dim, add.tile.block_d), splits),
            **add.tile.compiler_options, tile_tops=tile_tops, tile_totals=tile_totals,
            tops=top, totals=total, next_tops=next_top, next_totals=next_total, sums=sums,
            tiles_per_split=triton.cdiv(tiles, splits), TILE=block_n, **chunk,
            **add.arguments(queries, outputs),
        )  # fmt: skip
        top, next_top, total, next_total = next_top, top, next_total, total
    return WeightedPartial(top, total, total, sums)
