# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The Hessian of the log-odds times a direction, in one pass over the items: 6BNd flops.

With the log-odds and the mean known, the weights need no running maximum: a tile of outputs gives
logits and components along the direction, and their centred product weighs the tile a third time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.softmax.presets import Preset
from memsolve_kernels.softmax.triton_tile import (
    COUNTS,
    LOG2_E,
    TINY,
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
    for start in range(first, min(first + items_per_split, num_items), BLOCK_N):
        items = start + tl.arange(0, BLOCK_N)
        value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(query, tl.trans(value), input_precision=PRECISION)
        along = tl.dot(direction, tl.trans(value), input_precision=PRECISION)
        logit = leave_out(logit, items, num_items, target)
        weight = tl.exp2(logit * LOG2_E - shift[:, None])
        total += tl.sum(weight, 1)
        weight *= along - center[:, None]
        weighted = tl.dot(weight.to(value.dtype), value, weighted, input_precision=PRECISION)

    slot = tl.program_id(1).to(tl.int64) * num_queries + rows
    tl.store(totals + slot, total, mask=rows < num_queries)
    inside = (rows < num_queries)[:, None] & (columns < DIM)[None, :]
    tl.store(sums + slot[:, None] * DIM + columns[None, :], weighted, mask=inside)


def covariance(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    shifts: Tensor,
    centers: Tensor,
    preset: Preset,
    precision: str,
    splits: int,
) -> Tensor:
    """(B, d) in float32; queries, directions (B, d), targets, shifts, centers (B,) contiguous."""
    (batch, dim), num_items = queries.shape, len(outputs)
    totals = queries.new_empty(splits, batch, dtype=torch.float32)
    sums = queries.new_empty(splits, batch, dim, dtype=torch.float32)
    per_split = triton.cdiv(triton.cdiv(num_items, splits), preset.block_n) * preset.block_n
    covariance_kernel[(triton.cdiv(batch, preset.block_b), splits)](
        queries, directions, outputs, targets, shifts, centers, totals, sums,
        batch, num_items, *outputs.stride(), per_split,
        DIM=dim, BLOCK_B=preset.block_b, BLOCK_N=preset.block_n, BLOCK_D=preset.block_d,
        PRECISION=precision, **preset.options,
    )  # fmt: skip
    return normalise(sums, totals)


def normalise(sums: Tensor, totals: Tensor) -> Tensor:
    """Weighted sums (splits, B, d) over sums of weights (splits, B): (B, d)."""
    product = sums[0] if len(sums) == 1 else sums.sum(0)
    return product.div_(totals.sum(0).clamp_min_(TINY.value)[:, None])
