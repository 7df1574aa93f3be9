"""What a call asks for beside its matrix, as one value, and the steps that follow from it."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memsolve_kernels.architectures import architecture
from memsolve_kernels.dispatch import Precision
from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.matrix_sign.polynomials import Schedule, gentle, minimax

DEFAULT_LOWER = {
    torch.float64: 1e-10,
    torch.float32: torch.finfo(torch.float32).eps,
    torch.float16: torch.finfo(torch.float16).eps,
    torch.bfloat16: torch.finfo(torch.bfloat16).eps,
}
"""Smallest singular value that is resolved by default, relative to the Frobenius norm of a matrix
that comes in this dtype; no smaller one grows by more than the inverse of that.

It is twice the unit roundoff `u`. Rounding changes a matrix by at most `u ||G||_F` in the Frobenius
norm, whatever its shape. This noise has full rank, so where `G` is of low rank it lies mostly
outside the row and column space of `G`. Multiplied by `1 / (2 u ||G||_F)`, its norm is at most 1/2,
while the norm of a sign of rank r is `sqrt(r) >= 1`: together at most 1.12 times the true norm.
Measured, the norm of the noise is about 0.2. That leaves room for sums that are rounded more than
once: 16 outer products summed in bfloat16 end at 1.14 of the true norm. A running mean in the
gradient's dtype carries more: of one gradient of rank 1, over and over, 1.2 in float32 and 1.7 in
bfloat16 after 60 steps at momentum 0.95.

Float64 resolves more than that, as a gradient carries errors other than its rounding."""

_ITERATED_LOWER = {
    torch.float64: 1e-10,
    torch.float32: 1e-7,
    torch.float16: 1e-5,
    torch.bfloat16: 1e-4,
}
"""Smallest singular value, relative to the largest, that an iteration in this dtype resolves of a
matrix that comes in a more precise one."""


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
        lower: smallest singular value to resolve by default, relative to the Frobenius norm.
    """

    damping: float
    steps: int | None
    schedule: Schedule | None
    dtype: torch.dtype
    wide: torch.dtype
    precision: Precision | None
    lower: float

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
        schedule = self._default(rank, bounds) if self.schedule is None else self.schedule
        if self.steps is not None:
            schedule = schedule.take(self.steps)
        return schedule if self.schedule is None else schedule.for_rank(rank)

    def _default(self, rank: int, bounds: Tensor | None) -> Schedule:
        """The minimax schedule for what the dtypes resolve, or for these bounds if larger.

        One schedule serves the batch: that of its smallest bound, rounded down to a power of two so
        that few schedules are ever computed.
        """
        error = 4 * torch.finfo(self.dtype).eps
        schedule = gentle(self.lower, error)
        coarser = _ITERATED_LOWER[self.dtype] / math.sqrt(rank)
        if coarser > self.lower:
            schedule = minimax(coarser, error)
        if self.damping > 0 and bounds is not None:
            smallest = float(bounds.min())
            if not math.isfinite(smallest):
                raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")
            if smallest > max(coarser, self.lower):
                schedule = minimax(min(0.5, 2.0 ** math.floor(math.log2(smallest))), error)
        return replace(schedule, wide_steps=2)


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
    lower = DEFAULT_LOWER[matrix.dtype]
    return Settings(float(damping), steps, schedule, dtype, wide, precision, lower)


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
