"""Validation of the arguments of the matrix sign, which become settings."""

import torch
from torch import Tensor
from torch._C._functorch import (
    get_unwrapped,
    is_functorch_wrapped_tensor,
    is_gradtrackingtensor,
)
from torch.autograd import forward_ad

from memsolve_kernels.arguments import parse_int
from memsolve_kernels.dispatch import BackendName, Precision, check_backend, check_precision
from memsolve_kernels.errors import BackendError, DtypeError, NonFiniteError, RangeError, ShapeError
from memsolve_kernels.matrix_sign.polynomials import STOCK, Schedule
from memsolve_kernels.matrix_sign.settings import DEFAULT_LOWER, Settings
from memsolve_kernels.modes import untraced

_MAX_DAMPING = torch.finfo(torch.float32).max


def parse_settings(
    matrix: Tensor,
    damping: float,
    steps: int | None,
    schedule: Schedule | str | None,
    dtype: torch.dtype | None,
    precision: Precision | None,
    backend: BackendName | None,
) -> Settings:
    """The settings of a call, valid on some device; reads no values of the matrix.

    Raises:
        InputError: a subclass, with the invalid argument and the reason.
    """
    _check_matrix(matrix)
    check_settings(damping, schedule, dtype, precision, backend)
    dtype = dtype or matrix.dtype
    if precision is not None and dtype not in (torch.float32, torch.float64):
        raise BackendError(
            f"precision={precision!r} was given for {dtype}; it applies to float32 products"
        )
    return Settings(
        matrix.dtype,
        dtype,
        float(damping),
        None if steps is None else parse_int("steps", steps, 1),
        STOCK[schedule] if isinstance(schedule, str) else schedule,
        precision,
        backend,
    )


def _check_matrix(matrix: Tensor) -> None:
    if not isinstance(matrix, Tensor):
        raise DtypeError(f"matrix is {type(matrix).__name__}; expected a torch.Tensor")
    if matrix.layout is not torch.strided:
        raise DtypeError(
            f"matrix has layout {matrix.layout}; expected a dense one (torch.strided): pass "
            "matrix.to_dense()"
        )
    if matrix.ndim < 2:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}; expected (..., m, n)")
    _check_dtype("matrix has dtype", matrix.dtype)


def check_settings(
    damping: float,
    schedule: Schedule | str | None,
    dtype: torch.dtype | None,
    precision: Precision | None,
    backend: BackendName | None,
) -> None:
    """Raise unless these settings are valid for some matrix."""
    try:
        valid = 0 <= float(damping) < _MAX_DAMPING
    except (TypeError, ValueError):
        valid = False
    if not valid:
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
    if not matrix.abs().amax().isfinite():  # four times as fast as a test of each entry
        raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")


def differentiates_by(matrix: Tensor) -> bool:
    """Whether forward mode, or a transform of `torch.func`, differentiates by a matrix."""
    if forward_ad._current_level < 0 and not torch._C._are_functorch_transforms_active():
        return False
    if torch.compiler.is_compiling():
        return _requires_derivative(matrix.view_as(matrix))  # visible on a new view only
    return _is_differentiated(matrix)


# A compiler does not see wrappers, and would compile this function after a break in its caller.
@untraced
def _is_differentiated(matrix: Tensor) -> bool:
    """Whether forward mode, or a transform around the matrix, differentiates by it."""
    if not is_functorch_wrapped_tensor(matrix):
        return forward_ad.unpack_dual(matrix).tangent is not None
    differentiated = is_gradtrackingtensor(matrix) and _requires_derivative(matrix)
    return differentiated or _is_differentiated(get_unwrapped(matrix))


def _requires_derivative(matrix: Tensor) -> bool:
    """Whether it requires a gradient or has a tangent, in the innermost transform."""
    if torch.is_grad_enabled() and matrix.requires_grad:
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(matrix).tangent is not None


def _check_dtype(what: str, dtype: torch.dtype) -> None:
    if dtype not in DEFAULT_LOWER:
        names = ", ".join(str(dtype) for dtype in DEFAULT_LOWER)
        raise DtypeError(f"{what} {dtype}; expected one of {names}")
