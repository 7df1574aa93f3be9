"""What the matrix sign can be asked for: its arguments become settings, or an error."""

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch._subclasses.fake_tensor import FakeTensor

from memsolve_kernels.dispatch import Backend, Precision, check_backend, check_precision
from memsolve_kernels.errors import BackendError, DtypeError, NonFiniteError, RangeError, ShapeError
from memsolve_kernels.matrix_sign.polynomials import STOCK, Schedule
from memsolve_kernels.matrix_sign.settings import DEFAULT_LOWER, Settings, wider

_MAX_DAMPING = torch.finfo(torch.float32).max


def checked(
    matrix: Tensor,
    damping: float,
    steps: int | None,
    schedule: Schedule | str | None,
    dtype: torch.dtype | None,
    precision: Precision | None,
    backend: Backend | None,
) -> Settings:
    """The arguments of `matrix_sign` as settings; raises unless they can be used."""
    if not isinstance(matrix, Tensor):
        raise DtypeError(f"matrix is {type(matrix).__name__}; expected a torch.Tensor")
    if matrix.ndim < 2:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}; expected (..., m, n)")
    _check_dtype("matrix has dtype", matrix.dtype)
    if not torch.compiler.is_dynamo_compiling():  # which breaks the graph where values are read
        _check_readable(matrix)
    check_settings(damping, schedule, dtype, precision, backend)
    given = STOCK[schedule] if isinstance(schedule, str) else schedule
    dtype = dtype or matrix.dtype
    if precision is not None and dtype not in (torch.float32, torch.float64):
        raise BackendError(
            f"precision={precision!r} was given for {dtype}; it applies to float32 products"
        )
    wide = wider(dtype, matrix.device)
    return Settings(float(damping), steps, given, dtype, wide, precision)


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


def check_finite(matrix: Tensor) -> None:
    """Raise NonFiniteError if a matrix, not empty, contains NaN or infinity; waits for a GPU."""
    if not matrix.abs().amax().isfinite():  # four times as fast as to ask each entry
        raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")


def _check_readable(matrix: Tensor) -> None:
    if is_batchedtensor(matrix):
        raise ShapeError(
            "matrix is inside torch.func.vmap; expected the whole batch (..., m, n), without vmap"
        )
    if matrix.is_meta or (matrix.device.type == "cpu" and isinstance(matrix, FakeTensor)):
        raise BackendError(
            "matrix has no values (a FakeTensor, as under torch.export, or on the meta device); "
            "on a CPU matrix_sign reads them: call it outside of what is traced"
        )


def _check_dtype(what: str, dtype: torch.dtype) -> None:
    if dtype not in DEFAULT_LOWER:
        names = ", ".join(str(dtype) for dtype in DEFAULT_LOWER)
        raise DtypeError(f"{what} {dtype}; expected one of {names}")
