# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""What the kernels share: loading blocks, the masks of tails and targets, sizes at a launch."""

import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.softmax.presets import Preset

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-3.0e38)  # where a running maximum starts: finite, so -inf less it is not NaN
TINY = tl.constexpr(1.0e-37)  # below any sum that holds an item
ONES = tl.constexpr(8)  # columns of a product that sums weights as rounded for it, the fewest
COUNTS = ("num_queries", "num_items", "num_splits", "items_per_split", "tiles_per_split")
"""Arguments that decide no alignment: one compilation serves all their values."""


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
    """The first item from `start` on that some query leaves out: no tile before it needs a mask."""
    return tl.min(tl.where(target >= start, target, num_items), 0)


def sizes(queries: Tensor, outputs: Tensor) -> dict[str, int]:
    """Arguments of every kernel: the shapes of queries (B, d) and outputs (N, d), and strides."""
    stride_item, stride_dim = outputs.stride()
    return {
        "num_queries": len(queries),
        "num_items": len(outputs),
        "stride_item": stride_item,
        "stride_dim": stride_dim,
        "DIM": queries.shape[1],
    }


def blocks(preset: Preset) -> dict[str, int]:
    """Arguments of every kernel that has a preset: its tile."""
    return {
        "BLOCK_B": preset.block_b,
        "BLOCK_N": preset.block_n,
        "BLOCK_D": preset.block_d,
    }


def items_per_split(num_items: int, splits: int, preset: Preset) -> int:
    """Whole tiles, as even as they can be; the last splits may have fewer, or none."""
    tiles: int = triton.cdiv(triton.cdiv(num_items, splits), preset.block_n)
    return tiles * preset.block_n
