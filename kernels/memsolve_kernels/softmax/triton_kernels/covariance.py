# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The Hessian of the log-odds times a direction, in one pass over the items: 6BNd flops.

The log-odds and the mean are inputs, so that the weights need no running maximum: a tile of outputs
gives logits and components along the direction, and their centred product weights the tile.
"""

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
    first_left_out,
    leave_out,
    load_block,
    load_targets,
)


@triton.jit(do_not_specialize=COUNTS)
def covariance_kernel(
    queries, directions, outputs, targets, shifts, centers, totals, sums,
    num_queries, num_items, stride_item, stride_dim, items_per_split,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum over one split's items of `exp2(logit - shift) (along - center)` times the output."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    columns = tl.arange(0, BLOCK_D)
    query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)
    direction = load_block(directions, rows, num_queries, DIM, columns, 1, DIM)
    target = load_targets(targets, rows, num_queries, num_items)
    shift = tl.load(shifts + rows, mask=rows < num_queries, other=0.0)
    center = tl.load(centers + rows, mask=rows < num_queries, other=0.0)
    total = tl.zeros((BLOCK_B,), tl.float32)
    weighted = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)

    first = tl.program_id(1) * items_per_split
    left_out = first_left_out(first, num_items, target)
    for start in range(first, min(first + items_per_split, num_items), BLOCK_N):
        items = start + tl.arange(0, BLOCK_N)
        value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(query, tl.trans(value), input_precision=PRECISION)
        along = tl.dot(direction, tl.trans(value), input_precision=PRECISION)
        if start + BLOCK_N > left_out:
            logit = leave_out(logit, items, num_items, target)
            left_out = first_left_out(start + BLOCK_N, num_items, target)
        weight = tl.exp2(logit * LOG2_E - shift[:, None])
        total += tl.sum(weight, 1)
        weight *= along - center[:, None]
        weighted = tl.dot(weight.to(value.dtype), value, weighted, input_precision=PRECISION)

    slot = tl.program_id(1).to(tl.int64) * num_queries + rows
    tl.store(totals + slot, total, mask=rows < num_queries)
    inside = (rows < num_queries)[:, None] & (columns < DIM)[None, :]
    tl.store(sums + slot[:, None] * DIM + columns[None, :], weighted, mask=inside)


def launch_covariance(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    context: HvpContext,
    config: LaunchConfig,
) -> WeightedPartial:
    """One part per split, in float32; queries, targets and context are contiguous."""
    (batch, dim), num_items, splits = queries.shape, len(outputs), config.splits
    totals = queries.new_empty(splits, batch, dtype=torch.float32)
    sums = queries.new_empty(splits, batch, dim, dtype=torch.float32)
    launch(
        covariance_kernel, config.grid(batch), **config.tile.compiler_options,
        queries=queries, directions=context.directions, outputs=outputs, targets=targets,
        shifts=context.shift, centers=context.center, totals=totals, sums=sums,
        items_per_split=config.items_per_split(num_items),
        **config.arguments(queries, outputs),
    )  # fmt: skip
    return WeightedPartial(context.shift.expand(splits, batch), totals, totals, sums)
