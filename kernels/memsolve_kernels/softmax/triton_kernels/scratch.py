# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The two passes where d is too large for a weighted sum of outputs to stay on chip.

A chunk of items at a time, one kernel writes the weights of all its items into a fixed scratch, as
a matrix product with an exponential at its end, and a second multiplies them with the outputs: 4BNd
flops for the log-odds and 6BNd for the covariance, as in one pass, and a few bytes a weight.

Weights are relative to the maximum of their own tile, up to a power of two; the second kernel knows
the maxima of the whole chunk before it starts, and so scales each tile once, exactly, and its
accumulator once a chunk.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.passes import Aim, WeightedPartial
from memsolve_kernels.softmax.presets import Preset
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LOG2_E,
    LOWEST,
    blocks,
    leave_out,
    load_block,
    load_targets,
    sizes,
)

SCRATCH_BYTES = 64 * 2**20
MOST_TILES = 2**16 - 1  # of a chunk: CUDA's limit on the second direction of a grid


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

    lines = weights + rows.to(tl.int64)[:, None] * chunk  # every place of which is written
    for place in range(first_tile * TILE, last_tile * TILE, BLOCK_N):
        part = (place // TILE) * num_queries + rows
        scale = tl.exp2(tl.load(tile_tops + part, mask=inside, other=LOWEST) - top)
        scale = scale.to(weights.dtype.element_ty)  # a power of two, so that no weight is rounded
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


def odds(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weigh: Preset,
    add: Preset,
    precision: str,
    splits: int,
) -> WeightedPartial:
    """A part a split, in float32; queries and targets contiguous."""
    inputs = {"queries": queries, "targets": targets}
    return by_chunks(weights_kernel, inputs, outputs, weigh, add, precision, splits)


def covariance(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    aim: Aim,
    weigh: Preset,
    add: Preset,
    precision: str,
    splits: int,
) -> WeightedPartial:
    """A part a split, in float32; queries, targets and the aim contiguous."""
    inputs = {"queries": queries, "targets": targets, "directions": aim.directions}
    inputs |= {"shifts": aim.shift, "centers": aim.center}
    partial = by_chunks(centred_weights_kernel, inputs, outputs, weigh, add, precision, splits)
    return partial._replace(top=aim.shift.expand(splits, -1))


def by_chunks(
    kernel: Any,
    inputs: dict[str, Tensor],
    outputs: Tensor,
    weigh: Preset,
    add: Preset,
    precision: str,
    splits: int,
) -> WeightedPartial:
    """Weigh a chunk of items by `kernel` and add it, one after the other."""
    if weigh.block_n % add.block_n:
        raise ValueError(f"tiles of {weigh.block_n} items cannot be added {add.block_n} at once")
    queries, num_items = inputs["queries"], len(outputs)
    batch, dim = queries.shape
    fitting = SCRATCH_BYTES // (batch * queries.element_size() * weigh.block_n)
    tiles = min(triton.cdiv(num_items, weigh.block_n), MOST_TILES)
    most = max(1, min(tiles, fitting))  # in a chunk
    weights = queries.new_empty(batch * most * weigh.block_n)
    single = queries.new_empty(0, dtype=torch.float32)
    tile_tops, tile_totals = single.new_empty(2, most, batch)
    # the state of each split before a chunk and after, by turns
    top, next_top = single.new_full((2, splits, batch), LOWEST.value)
    total, next_total = single.new_zeros(2, splits, batch)
    sums = single.new_zeros(splits, batch, dim)
    for first in range(0, num_items, most * weigh.block_n):
        tiles = min(most, triton.cdiv(num_items - first, weigh.block_n))
        chunk = {
            "outputs": outputs, "weights": weights,
            "first_item": first, "chunk": tiles * weigh.block_n,
            "PRECISION": precision, **sizes(queries, outputs),
        }  # fmt: skip
        launch(
            kernel, (triton.cdiv(batch, weigh.block_b), tiles), weigh.num_warps, weigh.num_stages,
            weigh.registers, tops=tile_tops, totals=tile_totals, **inputs, **chunk, **blocks(weigh),
        )  # fmt: skip
        launch(
            accumulate_kernel,
            (triton.cdiv(batch, add.block_b), triton.cdiv(dim, add.block_d), splits),
            add.num_warps, add.num_stages, add.registers,
            tile_tops=tile_tops, tile_totals=tile_totals,
            tops=top, totals=total, next_tops=next_top, next_totals=next_total, sums=sums,
            tiles_per_split=triton.cdiv(tiles, splits), TILE=weigh.block_n, **chunk, **blocks(add),
        )  # fmt: skip
        top, next_top, total, next_total = next_top, top, next_total, total
    return WeightedPartial(top, total, total, sums)
