"""The Newton-Schulz iteration: `h_damping` by matrix products alone, for any backend.

Without damping, `X <- a X + (b A + c A^2) X` with `A = X X^T`. With damping, `h_damping(G)` is the
first block of the polar factor of `[G, damping I]`; the iteration carries the two blocks `X` (m, n)
and `Y` (m, m) apart and never forms the augmented matrix: `A = X X^T + Y Y^T`, and both blocks get
the same update. `Y` is a polynomial in `G G^T`, so it is symmetric and commutes with `A`.

A product's rounding error is relative to the largest singular value, so the first steps, in which
the small ones are smallest, decide how much of them survives. The default schedule takes its first
two in a wider dtype; this divides the error by three to ten.
"""

import math
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.matrix_sign.polynomials import Schedule, minimax

# Smallest singular value, relative to the largest, that the default schedule resolves: below it
# lies what rounding leaves of a matrix in this dtype.
DEFAULT_LOWER = {
    torch.float64: 1e-12,
    torch.float32: 1e-7,
    torch.float16: 1e-5,
    torch.bfloat16: 1e-4,
}


class Products(Protocol):
    """What a backend supplies: the products of a step, on batches of contiguous matrices."""

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z` of `X`, `Y` (k, m, n) and `Z` (k, m, m), known to be symmetric."""

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X` of `X` (k, m, n) and `B` (k, m, m)."""


class Pair(NamedTuple):
    """The blocks of `[G, damping I]`, scaled so that no singular value exceeds one.

    Attributes:
        X: (k, m, n), a multiple of `G`.
        Y: (k, m, m), the same multiple of `damping I`; None without damping.
    """

    X: Tensor
    Y: Tensor | None

    def to(self, dtype: torch.dtype) -> "Pair":
        """The pair with its blocks in `dtype`."""
        return Pair(self.X.to(dtype), None if self.Y is None else self.Y.to(dtype))


def normalise(matrix: Tensor, damping: float) -> tuple[Pair, Tensor]:
    """Scale `matrix` (k, m, n) and damping by a bound on the norm of `[matrix, damping I]`.

    By the largest entry first and then by the Frobenius norm, so that nothing overflows or vanishes
    on the way, in the next wider dtype (see `wider`). Zero stays zero.

    Returns:
        The pair, and for each matrix a bound below which no singular value of its pair lies (k,).

    Raises:
        NonFiniteError: NaN or infinity in the matrix (on a CPU; elsewhere it comes out as NaN,
            since asking would wait for the device).
    """
    check_finite(matrix)
    wide = matrix.to(wider(matrix))
    largest = wide.abs().amax(dim=(-2, -1))
    scale = largest.clamp(min=damping)
    scale = torch.where(scale == 0, 1, scale)
    X = wide / scale[:, None, None]
    lower = damping / scale
    norm = torch.hypot(torch.linalg.vector_norm(X, dim=(-2, -1)), lower)
    norm = torch.where(norm == 0, 1, norm)
    X, lower = (X / norm[:, None, None]).contiguous(), lower / norm
    if damping == 0:
        return Pair(X, None), lower
    identity = torch.eye(X.shape[-2], dtype=X.dtype, device=X.device)
    return Pair(X, identity * lower[:, None, None]), lower


def check_finite(matrix: Tensor) -> None:
    """Raise NonFiniteError if the matrix contains NaN or infinity and is on a CPU."""
    if matrix.device.type == "cpu" and not matrix.isfinite().all():
        raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")


def wider(matrix: Tensor) -> torch.dtype:
    """The dtype in which scaling and the leading steps run.

    Float32 for half precision, float64 for float32 on a CPU (at twice the cost; on most GPUs it
    would be many times that), the matrix's own otherwise.
    """
    if matrix.dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return torch.float64 if matrix.device.type == "cpu" else matrix.dtype


def default_schedule(dtype: torch.dtype, bounds: Tensor | None = None) -> Schedule:
    """The minimax schedule for the bounds that `normalise` gave, or for the dtype's if larger.

    One schedule serves the batch: that of its smallest bound, rounded down to a power of two so
    that few schedules are ever computed. Bounds, of use with damping only, are read from the
    device.
    """
    lower = DEFAULT_LOWER[dtype]
    if bounds is not None:
        smallest = float(bounds.min())
        if not math.isfinite(smallest):
            raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")
        if smallest > lower:
            lower = min(0.5, 2.0 ** math.floor(math.log2(smallest)))
    return replace(minimax(lower, 4 * torch.finfo(dtype).eps), wide_steps=2)


def start(
    matrix: Tensor, damping: float, schedule: Schedule | None, steps: int | None
) -> tuple[Pair, Schedule]:
    """The scaled pair of `matrix` (k, m, n), and the schedule cut or extended to `steps`.

    The default schedule, for None, looks at the pair only where there is damping.
    """
    pair, bounds = normalise(matrix, damping)
    if schedule is None:
        schedule = default_schedule(matrix.dtype, bounds if damping > 0 else None)
    return pair, schedule if steps is None else schedule.take(steps)


def iterate(pair: Pair, schedule: Schedule, products: Products, dtype: torch.dtype) -> Pair:
    """Apply the schedule to the pair: its leading wide steps in the pair's dtype, then in `dtype`.

    Raises:
        NonFiniteError: the iteration diverged (checked on a CPU).
    """
    X, Y = pair
    for step, (a, b, c) in enumerate(schedule.polynomials):
        if step == schedule.wide_steps:
            X, Y = Pair(X, Y).to(dtype)
        A = products.symmetric(X, X)
        if Y is not None:
            A = products.symmetric(Y, Y, Z=A, beta=1.0)
        B = b * A if c == 0 else products.symmetric(A, A, c, Z=A, beta=b)
        X = products.update(X, B, a)
        if Y is not None:
            Y = products.symmetric(B, Y, Z=Y, beta=a)
    result = Pair(X, Y).to(dtype)
    if X.device.type == "cpu":
        check_converged(result)
    return result


def check_converged(pair: Pair) -> None:
    """Raise NonFiniteError if the pair contains NaN or infinity."""
    if not all(block.isfinite().all() for block in pair if block is not None):
        raise NonFiniteError(
            f"the Newton-Schulz iteration diverged in {pair.X.dtype}: rounding, or the schedule "
            "itself, took singular values past the interval in which its polynomials are bounded; "
            "use a wider dtype, fewer steps, or the default schedule"
        )
