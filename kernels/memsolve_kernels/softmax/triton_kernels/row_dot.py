# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The product of each query's vector with the output of its target."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.launch import launch
from memsolve_kernels.softmax.plan import sizes
from memsolve_kernels.softmax.triton_kernels.tile import COUNTS, load_block, load_targets

BLOCK_B, BLOCK_D, NUM_WARPS, NUM_STAGES = 16, 64, 4, 3


@triton.jit(do_not_specialize=COUNTS)
def row_dot_kernel(
    vectors, offsets, outputs, targets, products,
    num_queries, num_items, stride_item, stride_dim,
    DIM: tl.constexpr, HAS_OFFSET: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """`x . (v_y + offset)` for a block of queries; NaN where the target is not an item."""
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    target = load_targets(targets, rows, num_queries, num_items)
    product = tl.where(target < 0, float("nan"), tl.zeros((BLOCK_B,), tl.float32))
    for start in range(0, DIM, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)
        vector = load_block(vectors, rows, num_queries, DIM, columns, 1, DIM).to(tl.float32)
        value = load_block(
            outputs, tl.maximum(target, 0), num_items, stride_item, columns, stride_dim, DIM
        ).to(tl.float32)
        if HAS_OFFSET:
            value += load_block(offsets, rows, num_queries, DIM, columns, 1, DIM)
        product += tl.sum(vector * value, 1)
    tl.store(products + rows, product, mask=rows < num_queries)


def launch_row_dot(
    vectors: Tensor, outputs: Tensor, targets: Tensor, offsets: Tensor | None = None
) -> Tensor:
    """(B,) in float32 from contiguous vectors (B, d), targets (B,) and float32 offsets (B, d)."""
    batch = len(vectors)
    products = vectors.new_empty(batch, dtype=torch.float32)
    launch(
        row_dot_kernel, (triton.cdiv(batch, BLOCK_B),), NUM_WARPS, NUM_STAGES,
        vectors=vectors, offsets=offsets, outputs=outputs, targets=targets, products=products,
        HAS_OFFSET=offsets is not None, BLOCK_B=BLOCK_B, BLOCK_D=BLOCK_D,
        **sizes(vectors, outputs),
    )  # fmt: skip
    return products
