# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The inner loop that the matrix products share."""

import triton
import triton.language as tl


@triton.jit
def accumulate(
    left,
    right,
    depth,
    left_stride,
    right_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The tile `sum_k left[:, k] right[k, :]` (ROWS, COLUMNS) in float32, over `depth` of `k`.

    `left` (ROWS, 1) and `right` (1, COLUMNS) point to `k = 0`; consecutive `k` are a stride apart.
    """
    steps = tl.arange(0, DEPTH)
    left += steps[None, :] * left_stride
    right += steps[:, None] * right_stride
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, depth, DEPTH):
        inside = steps < depth - start
        a = tl.load(left, mask=inside[None, :], other=0.0)
        b = tl.load(right, mask=inside[:, None], other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
        left += DEPTH * left_stride
        right += DEPTH * right_stride
    return total
