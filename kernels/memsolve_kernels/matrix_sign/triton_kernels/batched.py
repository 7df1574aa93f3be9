# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""All steps of the iteration in one launch, for batches of small matrices.

One program scales one matrix and makes every step. `A` and `B` stay in its registers and shared
memory. `A` is rounded for its product only, since the compiler would convert a rounded summand one
element at a time. Between products `X` and `Y` are in their output, a few dozen kilobytes in cache,
so that registers hold one operand at a time and do not spill. Sizes are powers of two and constants
of the compiler, which saves registers for addresses and masks; other sizes are padded by zeros.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.launch import launch
from memsolve_kernels.matrix_sign.polynomials import Schedule
from memsolve_kernels.matrix_sign.scaling import Pair


@triton.jit(do_not_specialize=["scale"])
def batched_kernel(
    X,
    Y,
    out_X,
    out_Y,
    coefficients,
    scale,
    damping,
    steps,
    DAMPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All steps on one matrix `X` (ROWS, COLUMNS) of the batch and, if DAMPED, `Y` (ROWS, ROWS).

    If `scale` is one, `X` is the unscaled matrix, which is scaled first, and `Y` is not read.
    """
    matrix = tl.program_id(0).to(tl.int64)
    row, column, other_row = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, ROWS)
    x_offset = row[:, None] * COLUMNS + column[None, :]
    y_offset = row[:, None] * ROWS + other_row[None, :]
    x_at = out_X + matrix * ROWS * COLUMNS + x_offset
    y_at = out_Y + matrix * ROWS * ROWS + y_offset
    # Separate names: the compiler would carry x and y from step to step.
    initial = tl.load(X + matrix * ROWS * COLUMNS + x_offset)
    if scale == 1:
        first_x, share = normalise(initial.to(tl.float32), damping)
        tl.store(x_at, first_x.to(out_X.dtype.element_ty))
        if DAMPED:
            first_y = tl.where(row[:, None] == other_row[None, :], share, 0.0)
            tl.store(y_at, first_y.to(out_Y.dtype.element_ty))
    else:
        tl.store(x_at, initial)
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
        B = tl.dot(A.to(x.dtype), (c * A).to(x.dtype), b * A, input_precision=PRECISION).to(x.dtype)
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


@triton.jit
def normalise(x, damping):
    """`scaling.normalise`: the matrix and damping over a bound on `||[x, damping I]||`."""
    scale = tl.maximum(tl.max(tl.max(tl.abs(x), 1), 0), damping)
    scale = tl.where(scale == 0.0, 1.0, scale)
    x = x / scale
    share = damping / scale
    norm = tl.sqrt(tl.sum(tl.sum(x * x, 1), 0) + share * share)
    norm = tl.where(norm == 0.0, 1.0, norm)
    return x / norm, share / norm


def iterate(pair: Pair, schedule: Schedule, precision: Precision) -> Pair:
    """`newton_schulz.iterate` of a pair of small matrices, in its own dtype and in one launch.

    The blocks are contiguous; `X` is (k, m, n). Deterministic, and independent of the batch.
    """
    return _launch(pair.X, pair.Y, None, schedule, precision)


def scale_and_iterate(
    matrix: Tensor, damping: float, schedule: Schedule, precision: Precision
) -> Pair:
    """`scaling.normalise` and `iterate` of small matrices (k, m, n), in one launch.

    All steps are in the dtype of the matrix. Deterministic, and independent of the batch.
    """
    return _launch(matrix, None, damping, schedule, precision)


def _launch(
    X: Tensor, Y: Tensor | None, damping: float | None, schedule: Schedule, precision: Precision
) -> Pair:
    m, n = X.shape[-2:]
    rows, columns = padded(m), padded(n)
    damped = Y is not None or bool(damping)
    X = _pad(X, rows, columns)
    out_X = torch.empty_like(X, memory_format=torch.contiguous_format)
    out_Y = X.new_empty(len(X), rows, rows) if damped else out_X
    launch(
        batched_kernel,
        (len(X),),
        warps(rows, columns),
        1,
        X=X,
        Y=out_Y if Y is None else _pad(Y, rows, rows),
        out_X=out_X,
        out_Y=out_Y,
        coefficients=_coefficients(schedule, X.device),
        scale=0 if damping is None else 1,
        damping=0.0 if damping is None else damping,
        steps=len(schedule),
        DAMPED=damped,
        ROWS=rows,
        COLUMNS=columns,
        PRECISION=precision,
    )
    return Pair(out_X[:, :m, :n], out_Y[:, :m, :m] if damped else None)


def padded(size: int) -> int:
    """The size in which the kernel takes a matrix of this size: a power of two of at least 16."""
    return max(16, int(triton.next_power_of_2(size)))


def warps(rows: int, columns: int) -> int:
    """Warps of a program."""
    return 8 if rows * columns > 64 * 64 else 4


def _pad(X: Tensor, rows: int, columns: int) -> Tensor:
    m, n = X.shape[-2:]
    if (m, n) == (rows, columns):
        return X.contiguous()
    return torch.nn.functional.pad(X, (0, columns - n, 0, rows - m))


@cache
def _coefficients(schedule: Schedule, device: torch.device) -> Tensor:
    """(steps, 3) float32 on the device, once per schedule: a CUDA graph cannot copy them there."""
    return torch.tensor(schedule.polynomials, dtype=torch.float32, device=device)
