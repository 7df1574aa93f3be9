# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""`alpha X Y^T + beta Z`, known to be symmetric: half the tiles are computed and mirrored.

The one kernel is three products of a Newton-Schulz step: the Gram matrix `X X^T`, the polynomial
`b A + c A^2`, and the update `a Y + B Y` of a symmetric `Y` that commutes with `B`. The grid holds
the tiles of the lower triangle and no others. The result is symmetric bit by bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.launch import launch
from memsolve_kernels.matrix_sign.presets import Tile
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
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile (BLOCK, BLOCK) of the lower triangle of one matrix of the batch, and its mirror."""
    tiles = tl.cdiv(size, BLOCK)
    per_matrix = tiles * (tiles + 1) // 2
    matrix = (tl.program_id(0) // per_matrix).to(tl.int64)
    i, j = lower_tile(tl.program_id(0) % per_matrix, tiles, GROUP)
    rows = i * BLOCK + tl.arange(0, BLOCK)
    columns = j * BLOCK + tl.arange(0, BLOCK)
    X += matrix * size * depth
    Y += matrix * size * depth
    product = accumulate(
        X + (rows % size).to(tl.int64)[:, None] * depth,
        Y + (columns % size).to(tl.int64)[None, :] * depth,
        depth,
        1,
        1,
        BLOCK,
        BLOCK,
        DEPTH,
        PRECISION,
    )
    result = alpha * product
    corner = matrix * size * size
    here = corner + rows.to(tl.int64)[:, None] * size + columns[None, :]
    inside = (rows < size)[:, None] & (columns < size)[None, :]
    if HAS_Z:
        result += beta * tl.load(Z + here, mask=inside, other=0.0).to(tl.float32)
    result = result.to(out.dtype.element_ty)
    if i == j:
        result = tl.where(rows[:, None] >= columns[None, :], result, tl.trans(result))
    else:
        there = corner + columns.to(tl.int64)[:, None] * size + rows[None, :]
        inside_there = (columns < size)[:, None] & (rows < size)[None, :]
        tl.store(out + there, tl.trans(result), mask=inside_there)
    tl.store(out + here, result, mask=inside)


@triton.jit
def lower_tile(index, tiles, GROUP: tl.constexpr):
    """Row and column of a tile of the lower triangle, numbered so that neighbours share operands.

    Rows go in groups of GROUP. Within a group, the tiles left of its diagonal block come column by
    column, and then those of the block row by row.
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
    tile: Tile,
    precision: Precision,
) -> Tensor:
    """`alpha X Y^T + beta Z` of contiguous `X`, `Y` (k, m, n) and `Z` (k, m, m), if symmetric.

    Accumulates in float32 whatever the dtype. Deterministic, and the same in a batch as alone.
    """
    batch, size, depth = X.shape
    out = torch.empty(batch, size, size, dtype=X.dtype, device=X.device)
    tiles = triton.cdiv(size, tile.rows)
    launch(
        symmetric_kernel,
        (batch * tiles * (tiles + 1) // 2,),
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
        BLOCK=tile.rows,
        DEPTH=tile.depth,
        GROUP=tile.group,
        PRECISION=precision,
    )
    return out
