# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""Merge of partial softmaxes, split by split in order, with the target's column."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.partials import WeightedPartial
from memsolve_kernels.softmax.plan import sizes
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LN_2,
    LOG2_E,
    LOWEST,
    TINY,
    load_block,
    load_targets,
)

BLOCK_B, BLOCK_D, NUM_WARPS, NUM_STAGES = 8, 64, 4, 3


@triton.jit(do_not_specialize=COUNTS)
def merge_kernel(
    tops, totals, norms, sums, queries, outputs, targets, log_odds, difference, others,
    num_queries, num_items, stride_item, stride_dim, num_splits,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Log-odds, difference and others of a block of queries; NaN if the target is not an item."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    inside = rows < num_queries
    target = load_targets(targets, rows, num_queries, num_items)
    top = tl.full((BLOCK_B,), LOWEST, tl.float32)
    for split in range(num_splits):
        slot = split * num_queries + rows
        top = tl.maximum(top, tl.load(tops + slot, mask=inside, other=LOWEST))
    total = tl.zeros((BLOCK_B,), tl.float32)
    norm = tl.zeros((BLOCK_B,), tl.float32)
    for split in range(num_splits):
        slot = split * num_queries + rows
        scale = tl.exp2(tl.load(tops + slot, mask=inside, other=LOWEST) - top)
        total += scale * tl.load(totals + slot, mask=inside, other=0.0)
        norm += scale * tl.load(norms + slot, mask=inside, other=0.0)

    own = tl.where(target < 0, float("nan"), tl.zeros((BLOCK_B,), tl.float32))
    for start in range(0, DIM, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)
        block = inside[:, None] & (columns < DIM)[None, :]
        weighted = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)
        for split in range(num_splits):
            slot = split * num_queries + rows
            scale = tl.exp2(tl.load(tops + slot, mask=inside, other=LOWEST) - top)
            part = tl.load(
                sums + slot.to(tl.int64)[:, None] * DIM + columns[None, :], mask=block, other=0.0
            )
            weighted += part * scale[:, None]
        query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM).to(tl.float32)
        value = load_block(
            outputs, tl.maximum(target, 0), num_items, stride_item, columns, stride_dim, DIM
        ).to(tl.float32)
        own += tl.sum(query * value, 1)
        value = tl.where((target < 0)[:, None], float("nan"), value)
        place = rows.to(tl.int64)[:, None] * DIM + columns[None, :]
        tl.store(difference + place, weighted / tl.maximum(norm, TINY)[:, None] - value, mask=block)
    # in base 2, the difference of maximum and target logit is rounded once, at any size
    odds = tl.fma(own, -LOG2_E, top) + tl.log2(total)
    tl.store(log_odds + rows, odds * LN_2, mask=inside)
    tl.store(others + rows * 2, top, mask=inside)
    tl.store(others + rows * 2 + 1, total, mask=inside)


def launch_merge(
    partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds (B,), difference (B, d) and others (B, 2), float32; a single part is overwritten.

    Queries and targets are contiguous. Only the targets' outputs are read.
    """
    (splits, batch), sums = partial.top.shape, partial.sums
    log_odds, others = sums.new_empty(batch), sums.new_empty(batch, 2)
    difference = sums[0] if splits == 1 else torch.empty_like(sums[0])
    launch(
        merge_kernel, (triton.cdiv(batch, BLOCK_B),), NUM_WARPS, NUM_STAGES,
        tops=partial.top, totals=partial.total, norms=partial.norm, sums=sums,
        queries=queries, outputs=outputs, targets=targets,
        log_odds=log_odds, difference=difference, others=others,
        num_splits=splits, BLOCK_B=BLOCK_B, BLOCK_D=BLOCK_D, **sizes(queries, outputs),
    )  # fmt: skip
    return log_odds, difference, others
