# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""Log-odds, margin and rank in one pass over the items: 2BNd flops, for any d."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.partials import RankPartial
from memsolve_kernels.softmax.plan import LaunchConfig
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LN_2,
    LOG2_E,
    LOWEST,
    first_left_out,
    leave_out,
    load_block,
    load_targets,
)


@triton.jit
def by_lanes(logit, LANES: tl.constexpr):
    """(rows, columns) as (rows, lanes, columns of a lane): lanes take pairs of columns in turn."""
    ROWS: tl.constexpr = logit.shape[0]
    COLUMNS: tl.constexpr = logit.shape[1]
    pairs = tl.reshape(logit, (ROWS, COLUMNS // (2 * LANES), LANES, 2))
    return tl.reshape(tl.permute(pairs, (0, 2, 1, 3)), (ROWS, LANES, COLUMNS // LANES))


@triton.jit(do_not_specialize=COUNTS)
def rank_kernel(
    queries, outputs, targets, target_logits, log_odds, best_others, ranks,
    num_queries, num_items, stride_item, stride_dim, items_per_split,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    LANES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Statistics of a block of queries over the items of one split, without the targets.

    Each row has LANES copies of each, one for every thread that shares the row in a product of
    tensor cores, so that threads exchange nothing until all tiles are done.
    """
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    target = load_targets(targets, rows, num_queries, num_items)
    own = tl.load(target_logits + rows, mask=rows < num_queries, other=0.0)
    best = tl.full((BLOCK_B, LANES), float("-inf"), tl.float32)
    top = tl.full((BLOCK_B, LANES), LOWEST, tl.float32)
    total = tl.zeros((BLOCK_B, LANES), tl.float32)
    above = tl.zeros((BLOCK_B, LANES), tl.int32)
    columns = tl.arange(0, BLOCK_D)
    if DIM <= BLOCK_D:
        query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)

    first = tl.program_id(1) * items_per_split
    left_out = first_left_out(first, num_items, target)
    for start in range(first, min(first + items_per_split, num_items), BLOCK_N):
        items = start + tl.arange(0, BLOCK_N)
        if DIM <= BLOCK_D:
            value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
            logit = tl.dot(query, tl.trans(value), input_precision=PRECISION)
        else:
            logit = tl.zeros((BLOCK_B, BLOCK_N), tl.float32)
            for column in range(0, DIM, BLOCK_D):
                part = column + columns
                query = load_block(queries, rows, num_queries, DIM, part, 1, DIM)
                value = load_block(outputs, items, num_items, stride_item, part, stride_dim, DIM)
                logit = tl.dot(query, tl.trans(value), logit, input_precision=PRECISION)
        if start + BLOCK_N > left_out:
            logit = leave_out(logit, items, num_items, target)
            left_out = first_left_out(start + BLOCK_N, num_items, target)
        logit = by_lanes(logit, LANES)
        above += tl.sum(tl.where(logit > own[:, None, None], 1.0, 0.0), 2).to(tl.int32)
        best = tl.maximum(best, tl.max(logit, 2))
        risen = tl.maximum(top, best * LOG2_E)  # rounded once, and used as rounded below
        weight = tl.exp2(logit * LOG2_E - risen[:, :, None])
        total = total * tl.exp2(top - risen) + tl.sum(weight, 2)
        top = risen

    slot = tl.program_id(1).to(tl.int64) * num_queries + rows
    inside = rows < num_queries
    highest = tl.max(top, 1)
    total = tl.sum(total * tl.exp2(top - highest[:, None]), 1)
    odds = tl.fma(own, -LOG2_E, highest) + tl.log2(total)
    tl.store(log_odds + slot, odds * LN_2, mask=inside)
    tl.store(best_others + slot, tl.max(best, 1), mask=inside)
    tl.store(ranks + slot, tl.sum(above, 1), mask=inside)


def launch_ranks(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    target_logits: Tensor,
    config: LaunchConfig,
) -> RankPartial:
    """One part per split, in float32; queries, targets and target logits are contiguous."""
    batch, num_items, splits = len(queries), len(outputs), config.splits
    log_odds, best_others = queries.new_empty(2, splits, batch, dtype=torch.float32)
    above = targets.new_empty(splits, batch, dtype=torch.int64)
    launch(
        rank_kernel, config.grid(batch), **config.tile.compiler_options,
        queries=queries, outputs=outputs, targets=targets, target_logits=target_logits,
        log_odds=log_odds, best_others=best_others, ranks=above,
        items_per_split=config.items_per_split(num_items),
        LANES=config.tile.lanes, **config.arguments(queries, outputs),
    )  # fmt: skip
    return RankPartial(log_odds, best_others, above)
