# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""`alpha X Y^T + beta Z`, if symmetric: half of the tiles are computed and mirrored.

The kernel serves three products of a Newton-Schulz step: the Gram matrix `X X^T`, the polynomial
`b A + c A^2`, and the update `a Y + B Y` of a symmetric `Y` that commutes with `B`. The grid holds
the tiles of the lower triangle and no others. The result is symmetric bit by bit.

A tile may be wider than high. It then reads fewer operands from the L2 cache for its products;
these reads are the bottleneck of square tiles on sm_90 (bench/NOTES.md).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.launch import launch
from memsolve_kernels.matrix_sign.presets import TileConfig
from memsolve_kernels.matrix_sign.triton_kernels.tile import accumulate


@triton.jit
def symmetric_kernel(
    X,
    Y,
    Z,
    out,
    size,
    depth,
    alpha,
    beta,
    HAS_Z: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One or two square tiles side by side, COLUMNS wide, of one matrix, and their mirror images.

    A tile above the diagonal is skipped: another program mirrors it.
    """
    WIDE: tl.constexpr = COLUMNS // ROWS
    squares = tl.cdiv(size, COLUMNS)
    per_matrix = squares * (squares + 1) // 2 * WIDE
    matrix = (tl.program_id(0) // per_matrix).to(tl.int64)
    index = tl.program_id(0) % per_matrix
    i, j = lower_tile(index // WIDE, squares, GROUP)
    i = i * WIDE + index % WIDE
    rows = i * ROWS + tl.arange(0, ROWS)
    columns = j * COLUMNS + tl.arange(0, COLUMNS)
    X += matrix * size * depth
    Y += matrix * size * depth
    product = accumulate(
        X + (rows % size).to(tl.int64)[:, None] * depth,
        Y + (columns % size).to(tl.int64)[None, :] * depth,
        depth,
        1,
        1,
        ROWS,
        COLUMNS,
        DEPTH,
        PRECISION,
    )
    Z += matrix * size * size
    out += matrix * size * size
    if WIDE == 1:
        finish(product, Z, out, i, j, size, alpha, beta, HAS_Z, ROWS)
    else:
        halves = tl.permute(tl.reshape(product, (ROWS, 2, ROWS)), (0, 2, 1))
        left, right = tl.split(halves)
        finish(left, Z, out, i, 2 * j, size, alpha, beta, HAS_Z, ROWS)
        finish(right, Z, out, i, 2 * j + 1, size, alpha, beta, HAS_Z, ROWS)


@triton.jit
def finish(product, Z, out, i, j, size, alpha, beta, HAS_Z: tl.constexpr, BLOCK: tl.constexpr):
    """Write `alpha product + beta Z` of a tile on or below the diagonal, and mirror it."""
    if i >= j:
        row, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
        below, right = size - i * BLOCK, size - j * BLOCK  # remaining rows and columns
        here = i.to(tl.int64) * BLOCK * size + j * BLOCK
        inside = (row < below) & (column < right)
        result = alpha * product
        if HAS_Z:
            before = tl.load(Z + here + (row * size + column), mask=inside, other=0.0)
            result += beta * before.to(tl.float32)
        result = result.to(out.dtype.element_ty)
        if i == j:
            result = tl.where(row >= column, result, tl.trans(result))
        else:
            there = j.to(tl.int64) * BLOCK * size + i * BLOCK
            mirrored = (row < right) & (column < below)
            tl.store(out + there + (row * size + column), tl.trans(result), mask=mirrored)
        tl.store(out + here + (row * size + column), result, mask=inside)


@triton.jit
def lower_tile(index, tiles, GROUP: tl.constexpr):
    """Row and column of a square of the lower triangle, numbered so that neighbours share operands.

    Rows form groups of GROUP. Within a group, the tiles left of its diagonal block come column by
    column, then those of the block row by row.
    """
    first = triangle_row(index) // GROUP * GROUP
    height = tl.minimum(GROUP, tiles - first)
    index -= first * (first + 1) // 2
    rest = tl.maximum(index - first * height, 0)
    rest_row = triangle_row(rest)
    left = index < first * height
    row = tl.where(left, index % height, rest_row)
    column = tl.where(left, index // height, first + rest - rest_row * (rest_row + 1) // 2)
    return first + row, column


@triton.jit
def triangle_row(index):
    """The row of entry `index` when a lower triangle is numbered row by row."""
    row = ((tl.sqrt(8.0 * index.to(tl.float32) + 1.0) - 1.0) / 2.0).to(tl.int32)
    row = tl.where(row * (row + 1) // 2 > index, row - 1, row)
    return tl.where((row + 1) * (row + 2) // 2 <= index, row + 1, row)


def symmetric(
    X: Tensor,
    Y: Tensor,
    alpha: float,
    Z: Tensor | None,
    beta: float,
    tile: TileConfig,
    precision: Precision,
) -> Tensor:
    """`alpha X Y^T + beta Z` of contiguous `X`, `Y` (k, m, n) and `Z` (k, m, m), if symmetric.

    Accumulates in float32 for every dtype. Deterministic, and independent of the batch.
    """
    batch, size, depth = X.shape
    out = torch.empty(batch, size, size, dtype=X.dtype, device=X.device)
    squares = triton.cdiv(size, tile.columns)
    launch(
        symmetric_kernel,
        (batch * squares * (squares + 1) // 2 * (tile.columns // tile.rows),),
        tile.warps,
        tile.stages,
        X=X,
        Y=Y,
        Z=out if Z is None else Z,
        out=out,
        size=size,
        depth=depth,
        alpha=alpha,
        beta=beta,
        HAS_Z=Z is not None,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        GROUP=tile.group,
        PRECISION=precision,
    )
    return out
