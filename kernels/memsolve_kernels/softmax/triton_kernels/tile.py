# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""Device functions that the kernels share: loading blocks, and masks of tails and targets."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-3.0e38)  # start of a running maximum; finite: -inf minus it is not NaN
TINY = tl.constexpr(1.0e-37)  # below any sum that contains an item
ONES = tl.constexpr(8)  # columns of the product with ones that sums rounded weights: the minimum
COUNTS = ("num_queries", "num_items", "num_splits", "items_per_split", "tiles_per_split")
"""Arguments without influence on alignment: one compilation serves all their values."""


@triton.jit
def load_block(matrix, rows, num_rows, stride_row, columns, stride_column, DIM: tl.constexpr):
    """Rows and columns of a (num_rows, DIM) matrix, zero outside; offsets in int64."""
    offsets = rows.to(tl.int64)[:, None] * stride_row
    offsets += columns.to(tl.int64)[None, :] * stride_column
    inside = (rows < num_rows)[:, None] & (columns < DIM)[None, :]
    return tl.load(matrix + offsets, mask=inside, other=0.0)


@triton.jit
def load_targets(targets, rows, num_queries, num_items):
    """The targets in int32, and -1 for those that are not an item."""
    target = tl.load(targets + rows, mask=rows < num_queries, other=-1)
    return tl.where((target >= 0) & (target < num_items), target, -1).to(tl.int32)


@triton.jit
def leave_out(logit, items, num_items, target):
    """Logits with -inf at the targets and past the last item."""
    left_out = (items[None, :] == target[:, None]) | (items >= num_items)[None, :]
    return tl.where(left_out, float("-inf"), logit)


@triton.jit
def first_left_out(start, num_items, target):
    """The first item from `start` that some query excludes: tiles before it need no mask."""
    return tl.min(tl.where(target >= start, target, num_items), 0)
