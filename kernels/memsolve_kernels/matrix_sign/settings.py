"""What a call asks for beside its matrix, as one value, and the steps that follow from it."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memsolve_kernels.architectures import architecture
from memsolve_kernels.dispatch import Precision
from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.matrix_sign.polynomials import Schedule, minimax

DEFAULT_LOWER = {
    torch.float64: 1e-10,
    torch.float32: 1e-7,
    torch.float16: 1e-5,
    torch.bfloat16: 1e-4,
}
"""Smallest singular value, relative to the largest, that is resolved by default: not far above what
rounding leaves of a matrix in this dtype."""


@dataclass(frozen=True)
class Settings:
    """What `matrix_sign` was asked for, once it has been checked.

    Attributes:
        damping: `lambda`, in the units of the matrix.
        steps: how many of the schedule's, or None for all.
        schedule: the one that was given, or None for the default.
        dtype: to compute in, after scaling.
        wide: to scale in, and to take the schedule's wide steps in (see `wider`).
        precision: of float32 products, or None for the backend's own.
    """

    damping: float
    steps: int | None
    schedule: Schedule | None
    dtype: torch.dtype
    wide: torch.dtype
    precision: Precision | None

    @property
    def of_an_iteration(self) -> bool:
        """Whether something was asked for that only an iteration has."""
        return (self.steps, self.schedule, self.precision) != (None, None, None)

    def schedule_for(self, rank: int, bounds: Tensor | None = None) -> Schedule:
        """The steps to take on matrices (k, m, n) of at most this rank.

        Args:
            rank: `min(m, n)`.
            bounds: those that `normalise` gave (k,), for the default, which reads them from the
                device; of use with damping only.
        """
        known = bounds if self.damping > 0 else None
        schedule = _default(self.dtype, rank, known) if self.schedule is None else self.schedule
        if self.steps is not None:
            schedule = schedule.take(self.steps)
        return schedule if self.schedule is None else schedule.for_rank(rank)


def settings_for(
    matrix: Tensor,
    damping: float,
    steps: int | None,
    schedule: Schedule | None,
    dtype: torch.dtype | None,
    precision: Precision | None,
) -> Settings:
    """What was asked for, with the dtypes that follow from the matrix and its device."""
    dtype = dtype or matrix.dtype
    wide = wider(dtype, matrix.device)
    return Settings(float(damping), steps, schedule, dtype, wide, precision)


def wider(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of the scaling and the leading steps: float32 for half precision, else float64.

    Float64 is at most two to three times slower than float32 on CPUs and on the GPUs of data
    centers. Float32 has nothing wider on the others, where it would be many times slower.
    """
    if dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    row = architecture(device) if device.type == "cuda" else None
    fast = device.type == "cpu" or (row is not None and row.fast_float64)
    return torch.float64 if fast else dtype


def _default(dtype: torch.dtype, rank: int, bounds: Tensor | None) -> Schedule:
    """The minimax schedule for these bounds, or for the dtype's if larger.

    One schedule serves the batch: that of its smallest bound, rounded down to a power of two so
    that few schedules are ever computed.
    """
    lower = DEFAULT_LOWER[dtype] / math.sqrt(rank)
    if bounds is not None:
        smallest = float(bounds.min())
        if not math.isfinite(smallest):
            raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")
        if smallest > lower:
            lower = min(0.5, 2.0 ** math.floor(math.log2(smallest)))
    return replace(minimax(lower, 4 * torch.finfo(dtype).eps), wide_steps=2)
