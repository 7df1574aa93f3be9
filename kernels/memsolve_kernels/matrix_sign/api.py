"""`matrix_sign`, the public function: checks its arguments, chooses a backend, runs it."""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import (
    Backend,
    Precision,
    architecture,
    check_backend,
    check_precision,
    choose_backend,
)
from memsolve_kernels.errors import BackendError, DtypeError, RangeError, ShapeError
from memsolve_kernels.matrix_sign import newton_schulz, reference, torch_backend
from memsolve_kernels.matrix_sign.newton_schulz import Pair, check_finite
from memsolve_kernels.matrix_sign.polynomials import STOCK, Schedule

_MAX_DAMPING = torch.finfo(torch.float32).max


@torch.no_grad()
def matrix_sign(
    matrix: Tensor,
    damping: float = 0.0,
    *,
    steps: int | None = None,
    schedule: Schedule | str | None = None,
    dtype: torch.dtype | None = None,
    precision: Precision | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """The damped matrix sign `(G G^T + damping^2 I)^(-1/2) G`, Muon's update of a gradient `G`.

    On singular values it is `h(z) = z / sqrt(z^2 + damping^2)`; without damping, the polar factor:
    every singular value becomes one. Zero gives zero.

    The default schedule resolves singular values down to a lower bound relative to the largest:
    `1e-10` in float64, `1e-7` in float32, `1e-5` in float16 and `1e-4` in bfloat16, or, where it is
    larger, what follows from the damping (reading that waits for a GPU: give a schedule to avoid
    it, in a CUDA graph for example). They end within four roundings of their sign, but for what
    rounding adds. Pass `schedule=minimax(lower, error)` for another bound or error, which holds for
    any matrix. Singular values below the bound end between zero and one.

    Args:
        matrix: (..., m, n), float64, float32, float16 or bfloat16, on any device. Not modified; no
            gradient flows through the result.
        damping: `lambda`, in the units of the matrix.
        steps: number of steps, a prefix of the schedule or its last step repeated (default: all).
        schedule: a `Schedule`, the name of one in `STOCK`, or None for the minimax quintic.
        dtype: to iterate in, after scaling (default: the matrix's).
        precision: of float32 products, `"ieee"`, `"tf32x3"` or `"tf32"` (default: the backend's).
        backend: `"reference"` (SVD), `"torch"`, `"triton"`, or None for the best on the device.

    Returns:
        The sign, of the matrix's shape, dtype and device.

    Raises:
        ShapeError, DtypeError, RangeError: an argument that cannot be used.
        NonFiniteError: NaN or infinity in the matrix, or a diverging schedule (on a CPU; elsewhere
            the result then contains NaN, and `certify` raises).
        BackendError: a choice of backend or precision that cannot be honoured.

    Source: Kim et al. 2026 (arXiv 2603.26554) for `h`; Amsel et al. 2025 (arXiv 2505.16932) for the
    schedule.
    """
    check_matrix(matrix)
    if backend == "reference":
        check_settings(damping, None, dtype, None, backend)
        if (steps, schedule, precision) != (None, None, None):
            raise BackendError(
                "backend='reference' is an SVD: it takes no steps, schedule or precision"
            )
        check_finite(matrix)
        sign = reference.matrix_sign(matrix.to(dtype or matrix.dtype), float(damping))
        return sign.to(matrix.dtype)
    result = run(matrix, damping, steps, schedule, dtype, precision, backend).X
    return unfold(result, matrix).to(matrix.dtype)


def run(
    matrix: Tensor,
    damping: float,
    steps: int | None,
    schedule: Schedule | str | None,
    dtype: torch.dtype | None,
    precision: Precision | None,
    backend: Backend | None,
) -> Pair:
    """Choose the backend and iterate; the result's blocks are folded (see `fold`)."""
    check_settings(damping, schedule, dtype, precision, backend)
    damping, dtype = float(damping), dtype or matrix.dtype
    has_kernel = dtype != torch.float64 and architecture(matrix.device) is not None
    chosen = choose_backend(backend, matrix, triton=has_kernel)
    _check_precision(dtype, matrix.device, precision, chosen)
    if isinstance(schedule, str):
        schedule = STOCK[schedule]
    if matrix.numel() == 0:
        return Pair(matrix, None)
    folded = fold(matrix)
    if schedule is not None:
        schedule = schedule if steps is None else schedule.take(steps)
        schedule = schedule.for_rank(folded.shape[-2])
    with torch.autocast(matrix.device.type, enabled=False):
        if chosen == "triton":
            from memsolve_kernels.matrix_sign import triton_backend  # needs the triton package

            with torch.cuda.device_of(folded):  # Triton launches on the current device
                everywhere = backend == "triton"
                return triton_backend.run(
                    folded, damping, schedule, steps, dtype, precision, everywhere
                )
        pair, schedule = newton_schulz.start(folded, damping, schedule, steps, dtype)
        return newton_schulz.iterate(pair, schedule, torch_backend, dtype)


def fold(matrix: Tensor) -> Tensor:
    """(..., m, n) as one batch (k, min(m, n), max(m, n)): tall matrices are transposed."""
    rows, columns = matrix.shape[-2:]
    wide = matrix.mT.contiguous() if rows > columns else matrix
    return wide.reshape(matrix.shape[:-2].numel(), *wide.shape[-2:])


def unfold(folded: Tensor, matrix: Tensor) -> Tensor:
    """Undo `fold`: `folded` in the shape of `matrix`."""
    rows, columns = matrix.shape[-2:]
    return (folded.mT if rows > columns else folded).reshape(matrix.shape)


def check_matrix(matrix: Tensor) -> None:
    """Raise unless this is something that `matrix_sign` has a sign of."""
    if not isinstance(matrix, Tensor):
        raise DtypeError(f"matrix is {type(matrix).__name__}; expected a torch.Tensor")
    if matrix.ndim < 2:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}; expected (..., m, n)")
    _check_dtype("matrix has dtype", matrix.dtype)


def check_settings(
    damping: float,
    schedule: Schedule | str | None,
    dtype: torch.dtype | None,
    precision: Precision | None,
    backend: Backend | None,
) -> None:
    """Raise unless `matrix_sign` knows these, whatever the matrix."""
    try:
        known = 0 <= float(damping) < _MAX_DAMPING
    except (TypeError, ValueError):
        known = False
    if not known:
        raise RangeError(f"damping is {damping}; expected a number in [0, {_MAX_DAMPING:g})")
    stock = isinstance(schedule, str) and schedule in STOCK
    if not (schedule is None or isinstance(schedule, Schedule) or stock):
        raise RangeError(f"schedule is {schedule!r}; expected a Schedule or one of {sorted(STOCK)}")
    if dtype is not None:
        _check_dtype("dtype is", dtype)
    check_precision(precision)
    check_backend(backend)


def _check_dtype(what: str, dtype: torch.dtype) -> None:
    if dtype not in newton_schulz.DEFAULT_LOWER:
        names = ", ".join(str(dtype) for dtype in newton_schulz.DEFAULT_LOWER)
        raise DtypeError(f"{what} {dtype}; expected one of {names}")


def _check_precision(
    dtype: torch.dtype, device: torch.device, precision: Precision | None, backend: Backend
) -> None:
    if precision is None:
        return
    if dtype not in (torch.float32, torch.float64):
        raise BackendError(
            f"precision={precision!r} was given for {dtype}; it applies to float32 products"
        )
    if dtype == torch.float64:
        honoured = precision == "ieee"
    else:
        honoured = backend == "triton" or torch_backend.honours(dtype, device, precision)
    if not honoured:
        raise BackendError(
            f"backend={backend!r} cannot honour precision={precision!r} in {dtype} on "
            f"{device.type}: torch's own products are 'ieee', unless its fp32_precision or "
            "set_float32_matmul_precision allows less"
        )
