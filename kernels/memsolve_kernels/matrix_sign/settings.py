"""The settings of a call, as one value, and the schedule that they imply."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memsolve_kernels.dispatch import BackendName, Precision, architecture
from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.matrix_sign.polynomials import Schedule, gentle, minimax

DEFAULT_LOWER = {
    torch.float64: 1e-10,
    torch.float32: torch.finfo(torch.float32).eps,
    torch.float16: torch.finfo(torch.float16).eps,
    torch.bfloat16: torch.finfo(torch.bfloat16).eps,
}
"""Smallest singular value that is resolved by default, relative to the Frobenius norm of a matrix
in this dtype; no smaller one grows by more than its inverse.

It is twice the unit roundoff `u`. Rounding changes a matrix by at most `u ||G||_F` in the Frobenius
norm, for any shape. This noise has full rank, so if `G` has low rank the noise lies mostly outside
the row and column space of `G`. Multiplied by `1 / (2 u ||G||_F)`, its norm is at most 1/2, while
the norm of a sign of rank r is `sqrt(r) >= 1`: the sum has at most 1.12 times the true norm.
Measured, the norm of the noise is about 0.2. That leaves a margin for sums that are rounded more
than once: 16 outer products summed in bfloat16 give 1.14 of the true norm. A running mean in the
gradient's dtype accumulates more: for a constant gradient of rank 1, 1.2 in float32 and 1.7 in
bfloat16 after 60 steps at momentum 0.95.

The bound of float64 is far above its roundoff, as gradients have errors other than rounding."""

_ITERATED_LOWER = {
    torch.float64: 1e-10,
    torch.float32: 1e-7,
    torch.float16: 1e-5,
    torch.bfloat16: 1e-4,
}
"""Smallest singular value, relative to the largest, that an iteration in this dtype resolves of a
matrix in a more precise one."""


@dataclass(frozen=True)
class Settings:
    """Valid settings of `matrix_sign` for a matrix of a known dtype.

    Attributes:
        matrix_dtype: of the matrix.
        dtype: to compute in, after scaling.
        damping: `lambda`, in the units of the matrix.
        steps: number of the schedule's steps, or None for all.
        schedule: an explicit schedule, or None for the default.
        precision: of float32 products, or None for the backend's own.
        backend: by name, or None for the best on the device.
    """

    matrix_dtype: torch.dtype
    dtype: torch.dtype
    damping: float = 0.0
    steps: int | None = None
    schedule: Schedule | None = None
    precision: Precision | None = None
    backend: BackendName | None = None

    @property
    def lower(self) -> float:
        """Smallest singular value to resolve by default, relative to the Frobenius norm."""
        return DEFAULT_LOWER[self.matrix_dtype]

    @property
    def requires_iteration(self) -> bool:
        """Whether a setting applies to an iteration only."""
        return (self.steps, self.schedule, self.precision) != (None, None, None)

    def wide_dtype(self, device: torch.device) -> torch.dtype:
        """The dtype of the scaling and of the schedule's wide steps.

        Float32 for half precision, else float64, which is at most two to three times slower than
        float32 on CPUs and on data-center GPUs. On other GPUs, where float64 would be many times
        slower, it is the dtype itself.
        """
        if self.dtype in (torch.float16, torch.bfloat16):
            return torch.float32
        row = architecture(device) if device.type == "cuda" else None
        fast = device.type == "cpu" or (row is not None and row.fast_float64)
        return torch.float64 if fast else self.dtype

    def schedule_for(self, rank: int, bounds: Tensor | None = None) -> Schedule:
        """The steps for matrices (k, m, n) of at most this rank.

        Args:
            rank: `min(m, n)`.
            bounds: lower bounds on singular values (k,) from `normalise`. The default schedule with
                damping reads them from the device.
        """
        schedule = self._default_schedule(rank, bounds) if self.schedule is None else self.schedule
        if self.steps is not None:
            schedule = schedule.take(self.steps)
        return schedule if self.schedule is None else schedule.for_rank(rank)

    def _default_schedule(self, rank: int, bounds: Tensor | None) -> Schedule:
        """The minimax schedule for the resolution of the dtypes, or for these bounds if larger.

        One schedule serves the batch. It uses the smallest bound, rounded down to a power of two so
        that few schedules are computed.
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
