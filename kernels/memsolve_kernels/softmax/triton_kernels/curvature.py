# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""Gradient and Hessian product of the log-odds in a single pass over the items: 8BNd flops.

A program keeps the others' mean, and their sum weighted by the component along the direction (the
moment). The covariance is a difference of the two, which would cancel where one item has nearly all
the weight. Hence the mean is normalised by the sum of its weights as rounded for the tensor cores,
and its coefficient in the moment is the sum of the moment's rounded weights.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.plan import LaunchConfig, sizes
from memsolve_kernels.softmax.triton_kernels.merge import BLOCK_B, BLOCK_D, NUM_STAGES, NUM_WARPS
from memsolve_kernels.softmax.triton_kernels.row_dot import launch_row_dot
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LN_2,
    LOG2_E,
    LOWEST,
    ONES,
    TINY,
    first_left_out,
    leave_out,
    load_block,
    load_targets,
)


@triton.jit(do_not_specialize=COUNTS)
def curvature_kernel(
    queries, directions, outputs, targets, own_alongs, rows_out, sums, moments,
    num_queries, num_items, stride_item, stride_dim, items_per_split,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A split's maxima, sums of weights (exact, rounded, along the direction) and of outputs."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    columns = tl.arange(0, BLOCK_D)
    query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)
    direction = load_block(directions, rows, num_queries, DIM, columns, 1, DIM)
    target = load_targets(targets, rows, num_queries, num_items)
    own_along = tl.load(own_alongs + rows, mask=rows < num_queries, other=0.0)
    top = tl.full((BLOCK_B,), LOWEST, tl.float32)
    total = tl.zeros((BLOCK_B,), tl.float32)
    norm = tl.zeros((BLOCK_B, ONES), tl.float32)
    total_along = tl.zeros((BLOCK_B, ONES), tl.float32)
    ones = tl.full((BLOCK_N, ONES), 1.0, query.dtype)
    weighted = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)
    moment = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)

    first = tl.program_id(1) * items_per_split
    left_out = first_left_out(first, num_items, target)
    for start in range(first, min(first + items_per_split, num_items), BLOCK_N):
        items = start + tl.arange(0, BLOCK_N)
        value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(query, tl.trans(value), input_precision=PRECISION)
        along = tl.dot(direction, tl.trans(value), input_precision=PRECISION) - own_along[:, None]
        if start + BLOCK_N > left_out:
            logit = leave_out(logit, items, num_items, target)
            left_out = first_left_out(start + BLOCK_N, num_items, target)
        risen = tl.maximum(top, tl.max(logit, 1) * LOG2_E)
        decay = tl.exp2(top - risen)
        weight = tl.exp2(logit * LOG2_E - risen[:, None])
        total = total * decay + tl.sum(weight, 1)
        decay = decay[:, None]
        weight_along = (weight * along).to(value.dtype)
        weight = weight.to(value.dtype)
        norm = tl.dot(weight, ones, norm * decay, input_precision=PRECISION)
        weighted = tl.dot(weight, value, weighted * decay, input_precision=PRECISION)
        total_along = tl.dot(weight_along, ones, total_along * decay, input_precision=PRECISION)
        moment = tl.dot(weight_along, value, moment * decay, input_precision=PRECISION)
        top = risen

    inside = rows < num_queries
    stack = tl.num_programs(1).to(tl.int64) * num_queries  # rows_out holds four of these
    slot = tl.program_id(1).to(tl.int64) * num_queries + rows
    tl.store(rows_out + slot, top, mask=inside)
    tl.store(rows_out + stack + slot, total, mask=inside)
    tl.store(rows_out + 2 * stack + slot, tl.sum(norm, 1) / ONES, mask=inside)
    tl.store(rows_out + 3 * stack + slot, tl.sum(total_along, 1) / ONES, mask=inside)
    block = inside[:, None] & (columns < DIM)[None, :]
    tl.store(sums + slot[:, None] * DIM + columns[None, :], weighted, mask=block)
    tl.store(moments + slot[:, None] * DIM + columns[None, :], moment, mask=block)


@triton.jit(do_not_specialize=COUNTS)
def merge_curvature_kernel(
    rows_in, sums, moments, queries, outputs, targets, log_odds, difference, product,
    num_queries, num_items, stride_item, stride_dim, num_splits,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Log-odds, difference and covariance product of a block of queries, the splits in order."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    inside = rows < num_queries
    stack = num_splits * num_queries
    target = load_targets(targets, rows, num_queries, num_items)
    top = tl.full((BLOCK_B,), LOWEST, tl.float32)
    for split in range(num_splits):
        slot = split * num_queries + rows
        top = tl.maximum(top, tl.load(rows_in + slot, mask=inside, other=LOWEST))
    total = tl.zeros((BLOCK_B,), tl.float32)
    rounded_total = tl.zeros((BLOCK_B,), tl.float32)
    along = tl.zeros((BLOCK_B,), tl.float32)
    for split in range(num_splits):
        slot = split * num_queries + rows
        scale = tl.exp2(tl.load(rows_in + slot, mask=inside, other=LOWEST) - top)
        total += scale * tl.load(rows_in + stack + slot, mask=inside, other=0.0)
        rounded_total += scale * tl.load(rows_in + 2 * stack + slot, mask=inside, other=0.0)
        along += scale * tl.load(rows_in + 3 * stack + slot, mask=inside, other=0.0)
    rounded_total = tl.maximum(rounded_total, TINY)
    along /= tl.maximum(total, TINY)

    own = tl.where(target < 0, float("nan"), tl.zeros((BLOCK_B,), tl.float32))
    for start in range(0, DIM, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)
        block = inside[:, None] & (columns < DIM)[None, :]
        mean = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)
        moment = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)
        for split in range(num_splits):
            slot = split * num_queries + rows
            scale = tl.exp2(tl.load(rows_in + slot, mask=inside, other=LOWEST) - top)[:, None]
            place = slot.to(tl.int64)[:, None] * DIM + columns[None, :]
            mean += scale * tl.load(sums + place, mask=block, other=0.0)
            moment += scale * tl.load(moments + place, mask=block, other=0.0)
        mean /= rounded_total[:, None]
        moment /= tl.maximum(total, TINY)[:, None]
        query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM).to(tl.float32)
        value = load_block(
            outputs, tl.maximum(target, 0), num_items, stride_item, columns, stride_dim, DIM
        ).to(tl.float32)
        own += tl.sum(query * value, 1)
        value = tl.where((target < 0)[:, None], float("nan"), value)
        place = rows.to(tl.int64)[:, None] * DIM + columns[None, :]
        tl.store(difference + place, mean - value, mask=block)
        tl.store(product + place, moment - along[:, None] * mean, mask=block)
    odds = tl.fma(own, -LOG2_E, top) + tl.log2(total)
    tl.store(log_odds + rows, odds * LN_2, mask=inside)


def launch_curvature(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    config: LaunchConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds (B,), difference and covariance product (B, d) in float32.

    All inputs but the outputs are contiguous.
    """
    (batch, dim), num_items, splits = queries.shape, len(outputs), config.splits
    own_alongs = launch_row_dot(directions, outputs, targets)
    rows = own_alongs.new_empty(4, splits, batch)
    sums, moments = own_alongs.new_empty(2, splits, batch, dim)
    launch(
        curvature_kernel, config.grid(batch), **config.tile.compiler_options,
        queries=queries, directions=directions, outputs=outputs, targets=targets,
        own_alongs=own_alongs, rows_out=rows, sums=sums, moments=moments,
        items_per_split=config.items_per_split(num_items),
        **config.arguments(queries, outputs),
    )  # fmt: skip
    log_odds = own_alongs.new_empty(batch)
    difference, product = torch.empty_like(sums[0]), torch.empty_like(sums[0])
    launch(
        merge_curvature_kernel, (triton.cdiv(batch, BLOCK_B),), NUM_WARPS, NUM_STAGES,
        rows_in=rows, sums=sums, moments=moments,
        queries=queries, outputs=outputs, targets=targets,
        log_odds=log_odds, difference=difference, product=product,
        num_splits=splits, BLOCK_B=BLOCK_B, BLOCK_D=BLOCK_D, **sizes(queries, outputs),
    )  # fmt: skip
    return log_odds, difference, product
