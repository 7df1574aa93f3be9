"""What the matrix sign can be asked for: its arguments become settings, or an error."""

import torch
from torch import Tensor
from torch._C._functorch import (
    get_unwrapped,
    is_functorch_wrapped_tensor,
    is_gradtrackingtensor,
)
from torch.autograd import forward_ad

from memsolve_kernels.dispatch import Backend, Precision, check_backend, check_precision
from memsolve_kernels.errors import BackendError, DtypeError, NonFiniteError, RangeError, ShapeError
from memsolve_kernels.matrix_sign.polynomials import STOCK, Schedule
from memsolve_kernels.matrix_sign.settings import DEFAULT_LOWER

_MAX_DAMPING = torch.finfo(torch.float32).max


def check(
    matrix: Tensor,
    damping: float,
    schedule: Schedule | str | None,
    dtype: torch.dtype | None,
    precision: Precision | None,
    backend: Backend | None,
) -> None:
    """Raise unless these can be used on some device; reads nothing of the matrix's values."""
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
    _check_not_differentiated(matrix)
    check_settings(damping, schedule, dtype, precision, backend)
    dtype = dtype or matrix.dtype
    if precision is not None and dtype not in (torch.float32, torch.float64):
        raise BackendError(
            f"precision={precision!r} was given for {dtype}; it applies to float32 products"
        )


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


def _check_not_differentiated(matrix: Tensor) -> None:
    """Refuse forward mode and the gradients of `torch.func`, which take a constant for zero."""
    if forward_ad._current_level < 0 and not torch._C._are_functorch_transforms_active():
        return
    if torch.compiler.is_compiling():
        asked = _is_asked(matrix.view_as(matrix))  # of the innermost transform, by a new view alone
    else:
        asked = _is_differentiated(matrix)
    if asked:
        raise NotImplementedError(
            "the matrix sign has no derivative: pass matrix.detach() to take it as a constant"
        )


# A compiler cannot see wrappers, and would try this where it has given up on the caller.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _is_differentiated(matrix: Tensor) -> bool:
    """Whether forward mode, or a transform around the matrix, differentiates by it."""
    if not is_functorch_wrapped_tensor(matrix):
        return forward_ad.unpack_dual(matrix).tangent is not None
    asked = is_gradtrackingtensor(matrix) and _is_asked(matrix)
    return asked or _is_differentiated(get_unwrapped(matrix))


def _is_asked(matrix: Tensor) -> bool:
    """Whether it requires a gradient or has a tangent, as the innermost transform sees it."""
    if torch.is_grad_enabled() and matrix.requires_grad:
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(matrix).tangent is not None


def _check_dtype(what: str, dtype: torch.dtype) -> None:
    if dtype not in DEFAULT_LOWER:
        names = ", ".join(str(dtype) for dtype in DEFAULT_LOWER)
        raise DtypeError(f"{what} {dtype}; expected one of {names}")
