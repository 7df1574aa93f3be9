"""The matrix sign of tensors with values, and a torch.library operator for traced ones.

The operator has a shape for tracing and a rule for vmap. Tensors with values bypass it, since its
overhead is that of a small matrix. Its arguments are no objects: a schedule is a list of numbers.
"""

import math
from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor

from memsolve_kernels.matrix_sign.backends import select_backend
from memsolve_kernels.matrix_sign.checks import check_finite
from memsolve_kernels.matrix_sign.interface import MatrixSignBackend
from memsolve_kernels.matrix_sign.newton_schulz import NewtonSchulzBackend
from memsolve_kernels.matrix_sign.polynomials import Polynomial, Schedule
from memsolve_kernels.matrix_sign.settings import Settings
from memsolve_kernels.modes import without_autocast

_ALIGNED = 8
"""Matrices whose sides are multiples of this all start at multiples of 64 bytes in a batch."""

# The spelling that torch.library reads in every version.
Count = Optional[int]  # noqa: UP045
Name = Optional[str]  # noqa: UP045
Dtype = Optional[torch.dtype]  # noqa: UP045
Numbers = Optional[Sequence[float]]  # noqa: UP045


@torch.no_grad()
@without_autocast
def sign(matrix: Tensor, settings: Settings) -> Tensor:
    """The sign of a matrix (..., m, n), in its dtype, contiguous; for errors see `matrix_sign`."""
    backend = select_backend(matrix, settings)
    if matrix.numel() == 0:
        return matrix.clone(memory_format=torch.contiguous_format)
    if matrix.device.type == "cpu":
        check_finite(matrix)
        if _rounds_by_batch(matrix, settings, backend):
            matrices = matrix.reshape(-1, 1, *matrix.shape[-2:])
            signs = torch.cat([backend.sign(each, settings) for each in matrices])
            return signs.reshape(matrix.shape).to(matrix.dtype)
    return backend.sign(matrix, settings).to(matrix.dtype).contiguous()


def _rounds_by_batch(matrix: Tensor, settings: Settings, backend: MatrixSignBackend) -> bool:
    """Whether the others in a batch would change how the sign of a matrix is rounded, on a CPU.

    How a CPU sums products depends on the address of a matrix relative to the width of its vectors,
    and an iteration with damping takes one schedule for the whole batch.
    """
    rows, columns = matrix.shape[-2:]
    if matrix.numel() == rows * columns:
        return False
    one_schedule = settings.damping > 0 and settings.schedule is None
    aligned = rows % _ALIGNED == columns % _ALIGNED == 0
    return not aligned or (one_schedule and isinstance(backend, NewtonSchulzBackend))


@torch.library.custom_op("memsolve::matrix_sign", mutates_args=())
def traced_sign(
    matrix: Tensor,
    damping: float,
    steps: Count,
    schedule: Numbers,
    dtype: Dtype,
    precision: Name,
    backend: Name,
) -> Tensor:
    """`sign` with the fields of valid settings, as `flatten` lists them."""
    settings = Settings(
        matrix.dtype,
        dtype or matrix.dtype,
        damping,
        steps,
        _schedule_from(schedule),
        precision,  # type: ignore[arg-type]
        backend,  # type: ignore[arg-type]
    )
    return sign(matrix, settings)


@traced_sign.register_fake
def _(matrix: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(matrix, memory_format=torch.contiguous_format)


@traced_sign.register_vmap
def _(_: Any, in_dims: tuple[Any, ...], matrix: Tensor, *others: Any) -> tuple[Tensor, int]:
    sign: Tensor = traced_sign(matrix.movedim(in_dims[0], 0), *others)  # no other is a tensor
    return sign, 0


def flatten(settings: Settings) -> tuple[Any, ...]:
    """The settings as arguments of the operator, which follow the matrix."""
    s = settings
    return s.damping, s.steps, _numbers_of(s.schedule), s.dtype, s.precision, s.backend


def _numbers_of(schedule: Schedule | None) -> list[float] | None:
    """A schedule without its name; NaN stands for a missing error bound."""
    if schedule is None:
        return None
    error = math.nan if schedule.error is None else schedule.error
    coefficients = [number for polynomial in schedule.polynomials for number in polynomial]
    return [schedule.lower, float(schedule.wide_steps), error, *coefficients]


def _schedule_from(numbers: Sequence[float] | None) -> Schedule | None:
    if numbers is None:
        return None
    lower, wide_steps, error, *rest = numbers
    polynomials = tuple(Polynomial(*rest[at : at + 3]) for at in range(0, len(rest), 3))
    bound = None if math.isnan(error) else error
    return Schedule("traced", polynomials, lower, int(wide_steps), bound)
