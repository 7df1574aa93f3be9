# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""`a X + B X`, the last product of a Newton-Schulz step, with the sum in the epilogue."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.launch import launch
from memsolve_kernels.matrix_sign.presets import TileConfig
from memsolve_kernels.matrix_sign.triton_kernels.tile import accumulate


@triton.jit
def update_kernel(
    X,
    B,
    out,
    rows,
    columns,
    a,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile (ROWS, COLUMNS) of one matrix of the batch."""
    tile_rows, tile_columns = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    per_matrix = tile_rows * tile_columns
    matrix = (tl.program_id(0) // per_matrix).to(tl.int64)
    i, j = grouped_tile(tl.program_id(0) % per_matrix, tile_rows, tile_columns, GROUP)
    r = i * ROWS + tl.arange(0, ROWS)
    c = j * COLUMNS + tl.arange(0, COLUMNS)
    X += matrix * rows * columns
    product = accumulate(
        B + matrix * rows * rows + (r % rows).to(tl.int64)[:, None] * rows,
        X + (c % columns)[None, :],
        rows,
        1,
        columns,
        ROWS,
        COLUMNS,
        DEPTH,
        PRECISION,
    )
    here = r.to(tl.int64)[:, None] * columns + c[None, :]
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    result = a * tl.load(X + here, mask=inside, other=0.0).to(tl.float32) + product
    out += matrix * rows * columns
    tl.store(out + here, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def grouped_tile(index, tile_rows, tile_columns, GROUP: tl.constexpr):
    """Row and column of a tile: groups of GROUP rows, each in column order."""
    first = index // (GROUP * tile_columns) * GROUP
    height = tl.minimum(GROUP, tile_rows - first)
    index -= first * tile_columns
    return first + index % height, index // height


def update(X: Tensor, B: Tensor, a: float, tile: TileConfig, precision: Precision) -> Tensor:
    """`a X + B X` of contiguous `X` (k, m, n) and `B` (k, m, m).

    Accumulates in float32 for every dtype. Deterministic, and independent of the batch.
    """
    batch, rows, columns = X.shape
    out = torch.empty_like(X)
    tiles = triton.cdiv(rows, tile.rows) * triton.cdiv(columns, tile.columns)
    launch(
        update_kernel,
        (batch * tiles,),
        tile.warps,
        tile.stages,
        X=X,
        B=B,
        out=out,
        rows=rows,
        columns=columns,
        a=a,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        GROUP=tile.group,
        PRECISION=precision,
    )
    return out
