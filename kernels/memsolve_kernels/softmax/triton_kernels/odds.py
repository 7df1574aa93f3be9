# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""Log-odds and their gradient in one pass over the items: 4BNd flops.

A program takes a block of queries and a range of items, loads each tile of outputs once, uses it as
keys and then as values, and keeps running maximum, sums and weighted sum of outputs on chip. Ranges
are merged afterwards, always in the same order.

The log-odds use the sum of the weights; the mean uses the sum of the weights as rounded for the
tensor cores, so that rounding moves the mean only by the spread of the outputs around it. The
latter sum is a product with ones, since adding rounded numbers would convert each of them back.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.partials import WeightedPartial
from memsolve_kernels.softmax.plan import LaunchConfig
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LOG2_E,
    LOWEST,
    ONES,
    first_left_out,
    leave_out,
    load_block,
    load_targets,
)


@triton.jit(do_not_specialize=COUNTS)
def odds_kernel(
    queries, outputs, targets, tops, totals, norms, sums,
    num_queries, num_items, stride_item, stride_dim, items_per_split,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Online softmax of a block of queries over the items of one split, without the targets."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    columns = tl.arange(0, BLOCK_D)
    query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)
    target = load_targets(targets, rows, num_queries, num_items)
    top = tl.full((BLOCK_B,), LOWEST, tl.float32)
    total = tl.zeros((BLOCK_B,), tl.float32)
    norm = tl.zeros((BLOCK_B, ONES), tl.float32)
    ones = tl.full((BLOCK_N, ONES), 1.0, query.dtype)
    weighted = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)

    first = tl.program_id(1) * items_per_split
    left_out = first_left_out(first, num_items, target)
    for start in range(first, min(first + items_per_split, num_items), BLOCK_N):
        items = start + tl.arange(0, BLOCK_N)
        value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(query, tl.trans(value), input_precision=PRECISION)
        if start + BLOCK_N > left_out:
            logit = leave_out(logit, items, num_items, target)
            left_out = first_left_out(start + BLOCK_N, num_items, target)
        risen = tl.maximum(top, tl.max(logit, 1) * LOG2_E)
        decay = tl.exp2(top - risen)
        weight = tl.exp2(logit * LOG2_E - risen[:, None])
        total = total * decay + tl.sum(weight, 1)
        weight = weight.to(value.dtype)
        norm = tl.dot(weight, ones, norm * decay[:, None], input_precision=PRECISION)
        weighted = tl.dot(weight, value, weighted * decay[:, None], input_precision=PRECISION)
        top = risen

    slot = tl.program_id(1).to(tl.int64) * num_queries + rows
    tl.store(tops + slot, top, mask=rows < num_queries)
    tl.store(totals + slot, total, mask=rows < num_queries)
    tl.store(norms + slot, tl.sum(norm, 1) / ONES, mask=rows < num_queries)
    inside = (rows < num_queries)[:, None] & (columns < DIM)[None, :]
    tl.store(sums + slot[:, None] * DIM + columns[None, :], weighted, mask=inside)


def launch_odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, config: LaunchConfig
) -> WeightedPartial:
    """One part per split, in float32; queries and targets are contiguous."""
    (batch, dim), num_items, splits = queries.shape, len(outputs), config.splits
    tops, totals, norms = queries.new_empty(3, splits, batch, dtype=torch.float32)
    sums = queries.new_empty(splits, batch, dim, dtype=torch.float32)
    launch(
        odds_kernel, config.grid(batch), **config.tile.compiler_options,
        queries=queries, outputs=outputs, targets=targets,
        tops=tops, totals=totals, norms=norms, sums=sums,
        items_per_split=config.items_per_split(num_items),
        **config.arguments(queries, outputs),
    )  # fmt: skip
    return WeightedPartial(tops, totals, norms, sums)
