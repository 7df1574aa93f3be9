# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The gradient by the outputs in a second pass: 4BNd flops, given the others' sum.

The sides change places: a program holds a block of items and walks the queries, of which a tile
gives logits, as keys, and is summed, as values. So each item's gradient is one program's affair, no
sum crosses programs but by splits in order, and nothing depends on who comes first. The queries are
sorted by target, so that few tiles look for those that they hold. Sizes of tiles change places too:
`BLOCK_B` counts items here, and `BLOCK_N` queries.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.presets import Preset
from memsolve_kernels.softmax.triton_kernels.scratch import by_chunks
from memsolve_kernels.softmax.triton_kernels.tile import (
    COUNTS,
    LOG2_E,
    blocks,
    items_per_split,
    load_block,
    load_targets,
    sizes,
)


class Pull(NamedTuple):
    """What the queries do to the gradients, in float32.

    Attributes:
        shift: (B,), the log to base 2 to which the others' exponentials are relative.
        factor: (B,), how much a query's softmax counts, over the others' sum.
        own: (B,), what a query's target counts in its place.
        unit: (1,), of which factor and own are multiples.
    """

    shift: Tensor
    factor: Tensor
    own: Tensor
    unit: Tensor


@triton.jit
def weigh(logit, rows, shifts, factors, num_queries):
    """The weights of queries in the gradients of items that are none's target."""
    shift = tl.load(shifts + rows, mask=rows < num_queries, other=0.0)
    factor = tl.load(factors + rows, mask=rows < num_queries, other=0.0)
    return tl.exp2(logit * LOG2_E - shift[None, :]) * factor[None, :]


@triton.jit
def weigh_own(weight, items, rows, targets, owns, num_queries, num_items):
    """The weights with `own` at the targets, where they may have overflowed."""
    target = load_targets(targets, rows, num_queries, num_items)
    own = tl.load(owns + rows, mask=rows < num_queries, other=0.0)
    return tl.where(items[:, None] == target[None, :], own[None, :], weight)


@triton.jit(do_not_specialize=COUNTS)
def outputs_kernel(
    queries, outputs, targets, bounds, shifts, factors, owns, unit, gradients,
    num_queries, num_items, stride_item, stride_dim, items_per_split,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of a block of items from one split of the queries, sorted by target."""
    items = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    columns = tl.arange(0, BLOCK_D)
    value = load_block(outputs, items, num_items, stride_item, columns, stride_dim, DIM)
    gradient = tl.zeros((BLOCK_B, BLOCK_D), tl.float32)
    own_first, own_end = tl.load(bounds + tl.program_id(0)), tl.load(bounds + tl.program_id(0) + 1)

    first = tl.program_id(1) * items_per_split
    for start in range(first, min(first + items_per_split, num_queries), BLOCK_N):
        rows = start + tl.arange(0, BLOCK_N)
        query = load_block(queries, rows, num_queries, DIM, columns, 1, DIM)
        logit = tl.dot(value, tl.trans(query), input_precision=PRECISION)
        weight = weigh(logit, rows, shifts, factors, num_queries)
        if (start < own_end) & (start + BLOCK_N > own_first):
            weight = weigh_own(weight, items, rows, targets, owns, num_queries, num_items)
        weight = weight.to(query.dtype)
        gradient = tl.dot(weight, query, gradient, input_precision=PRECISION)

    slot = tl.program_id(1).to(tl.int64) * num_items + items
    inside = (items < num_items)[:, None] & (columns < DIM)[None, :]
    place = slot[:, None] * DIM + columns[None, :]
    tl.store(gradients + place, gradient * tl.load(unit), mask=inside)


@triton.jit(do_not_specialize=COUNTS)
def pulls_kernel(
    queries, outputs, targets, shifts, factors, owns, weights, tops, totals,
    num_queries, num_items, stride_item, stride_dim, first_item, chunk,
    DIM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The weights of a tile in a scratch whose `queries` are items and whose `outputs` queries."""
    items = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    places = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = first_item + places
    logit = tl.zeros((BLOCK_B, BLOCK_N), tl.float32)
    for column in range(0, DIM, BLOCK_D):
        columns = column + tl.arange(0, BLOCK_D)
        value = load_block(queries, items, num_queries, DIM, columns, 1, DIM)
        query = load_block(outputs, rows, num_items, stride_item, columns, stride_dim, DIM)
        logit = tl.dot(value, tl.trans(query), logit, input_precision=PRECISION)
    weight = weigh(logit, rows, shifts, factors, num_items)
    weight = weigh_own(weight, items, rows, targets, owns, num_items, num_queries)
    slot = tl.program_id(1).to(tl.int64) * num_queries + items
    nothing = tl.zeros((BLOCK_B,), tl.float32)
    tl.store(tops + slot, nothing, mask=items < num_queries)
    tl.store(totals + slot, nothing, mask=items < num_queries)
    place = items.to(tl.int64)[:, None] * chunk + places[None, :]
    weight = weight.to(weights.dtype.element_ty)
    tl.store(weights + place, weight, mask=(items < num_queries)[:, None])


def gradient(
    outputs: Tensor,
    queries: Tensor,
    targets: Tensor,
    pulls: Pull,
    preset: Preset,
    precision: str,
    splits: int,
) -> Tensor:
    """The gradient (N, d) in float32; all but the outputs contiguous, and the targets sorted."""
    num_items, dim = outputs.shape
    edges = torch.arange(0, num_items + preset.block_b, preset.block_b, device=targets.device)
    bounds = torch.searchsorted(targets, edges)
    gradients = outputs.new_empty(splits, num_items, dim, dtype=torch.float32)
    launch(
        outputs_kernel, (triton.cdiv(num_items, preset.block_b), splits),
        preset.num_warps, preset.num_stages, preset.registers,
        queries=queries, outputs=outputs, targets=targets, bounds=bounds,
        shifts=pulls.shift, factors=pulls.factor, owns=pulls.own, unit=pulls.unit,
        gradients=gradients,
        items_per_split=items_per_split(len(queries), splits, preset),
        PRECISION=precision, **sizes(queries, outputs), **blocks(preset),
    )  # fmt: skip
    return gradients[0] if splits == 1 else gradients.sum(0)


def gradient_by_scratch(
    outputs: Tensor,
    queries: Tensor,
    targets: Tensor,
    pulls: Pull,
    weigh: Preset,
    add: Preset,
    precision: str,
    splits: int,
) -> Tensor:
    """As `gradient`, for any d; the outputs contiguous too, the targets in any order."""
    inputs = {"queries": outputs, "targets": targets}
    inputs |= {"shifts": pulls.shift, "factors": pulls.factor, "owns": pulls.own}
    partial = by_chunks(pulls_kernel, inputs, queries, weigh, add, precision, splits)
    return partial.sums.sum(0).mul_(pulls.unit)
