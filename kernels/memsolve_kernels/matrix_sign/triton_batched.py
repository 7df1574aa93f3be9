# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The whole iteration in one launch, for batches of small matrices: each stays on its processor.

One program takes one matrix through every step. `A` and `B` never leave its registers and shared
memory; between products `X` and `Y` rest in their output, a few dozen kilobytes that stay in cache,
so that registers hold one operand at a time and do not spill. Sizes are powers of two known to the
compiler, which spares the registers of addresses and masks; zeros pad other sizes and stay zero.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.matrix_sign.newton_schulz import Pair
from memsolve_kernels.matrix_sign.polynomials import Schedule


@triton.jit
def batched_kernel(
    X,
    Y,
    out_X,
    out_Y,
    coefficients,
    steps,
    DAMPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All steps on one matrix (ROWS, COLUMNS) of the batch and, if DAMPED, its `Y` (ROWS, ROWS)."""
    matrix = tl.program_id(0).to(tl.int64)
    row, column, other_row = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, ROWS)
    x_offset = row[:, None] * COLUMNS + column[None, :]
    y_offset = row[:, None] * ROWS + other_row[None, :]
    x_at = out_X + matrix * ROWS * COLUMNS + x_offset
    y_at = out_Y + matrix * ROWS * ROWS + y_offset
    tl.store(x_at, tl.load(X + matrix * ROWS * COLUMNS + x_offset))
    if DAMPED:
        tl.store(y_at, tl.load(Y + matrix * ROWS * ROWS + y_offset))
    for step in range(steps):
        a = tl.load(coefficients + 3 * step)
        b = tl.load(coefficients + 3 * step + 1)
        c = tl.load(coefficients + 3 * step + 2)
        tl.debug_barrier()
        x = tl.load(x_at)
        A = tl.dot(x, tl.trans(x), input_precision=PRECISION)
        if DAMPED:
            y = tl.load(y_at)
            A = tl.dot(y, tl.trans(y), A, input_precision=PRECISION)
        A = A.to(x.dtype)
        B = (b * A + c * tl.dot(A, A, input_precision=PRECISION)).to(x.dtype)
        tl.debug_barrier()
        x = tl.load(x_at)
        x = a * x + tl.dot(B, x, input_precision=PRECISION)
        tl.debug_barrier()
        tl.store(x_at, x.to(out_X.dtype.element_ty))
        if DAMPED:
            y = tl.load(y_at)
            y = a * y + tl.dot(B, y, input_precision=PRECISION)
            tl.debug_barrier()
            tl.store(y_at, y.to(out_Y.dtype.element_ty))


def iterate(pair: Pair, schedule: Schedule, precision: Precision) -> Pair:
    """`newton_schulz.iterate` of a pair of small matrices, in its own dtype and in one launch.

    The blocks are contiguous; `X` is (k, m, n). Deterministic, and the same in a batch as alone.
    """
    rows, columns = padded(pair.X.shape[-2]), padded(pair.X.shape[-1])
    X = _pad(pair.X, rows, columns)
    Y = X if pair.Y is None else _pad(pair.Y, rows, rows)
    out_X, out_Y = torch.empty_like(X), torch.empty_like(Y)
    batched_kernel[(len(X),)](
        X,
        Y,
        out_X,
        out_Y,
        _coefficients(schedule, X.device),
        len(schedule),
        DAMPED=pair.Y is not None,
        ROWS=rows,
        COLUMNS=columns,
        PRECISION=precision,
        num_warps=warps(rows, columns),
        num_stages=1,
        enable_fp_fusion=True,
    )
    m, n = pair.X.shape[-2:]
    return Pair(out_X[:, :m, :n], None if pair.Y is None else out_Y[:, :m, :m], pair.lower)


def padded(size: int) -> int:
    """The size in which the kernel takes a matrix of this size: a power of two of at least 16."""
    return max(16, int(triton.next_power_of_2(size)))


def warps(rows: int, columns: int) -> int:
    """Warps of a program."""
    return 8 if rows * columns > 64 * 64 else 4


def _pad(X: Tensor, rows: int, columns: int) -> Tensor:
    m, n = X.shape[-2:]
    if (m, n) == (rows, columns):
        return X
    return torch.nn.functional.pad(X, (0, columns - n, 0, rows - m))


@cache
def _coefficients(schedule: Schedule, device: torch.device) -> Tensor:
    """(steps, 3) float32 on the device, once per schedule: a CUDA graph cannot copy them there."""
    return torch.tensor(schedule.polynomials, dtype=torch.float32, device=device)
