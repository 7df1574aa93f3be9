"""The Newton-Schulz iteration: `h_damping` by matrix products alone, for any backend.

Without damping, `X <- a X + (b A + c A^2) X` with `A = X X^T`. With damping, `h_damping(G)` is the
first block of the polar factor of `[G, damping I]`; the iteration carries the two blocks `X` (m, n)
and `Y` (m, m) apart and never forms the augmented matrix: `A = X X^T + Y Y^T`, and both blocks get
the same update. `Y` is a polynomial in `G G^T`, so it is symmetric and commutes with `A`. It stays
on the left of its products: in `B Y^T` what rounding leaves of asymmetry would grow each step.

The Gram form iterates on `A` alone, by symmetric products of the small side, and multiplies `X`
once, at the end. `A` has squared singular values, which rounding drowns sooner: see `gram_fits`.

A product's rounding error is relative to the largest singular value, so the first steps, in which
the small ones are smallest, decide how much of them survives. The default schedule takes its first
two in a wider dtype; this divides the error by three to ten.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.matrix_sign.polynomials import Schedule
from memsolve_kernels.matrix_sign.settings import Settings


class Products(Protocol):
    """What a backend supplies: the products of a step, on batches of contiguous matrices."""

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z` of `X`, `Y` (k, m, n) and `Z` (k, m, m), known to be symmetric."""

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X` of `X` (k, m, n) and `B` (k, m, m)."""

    def rounding(self, X: Tensor) -> float:
        """How far products of matrices like `X` are from exact, relative to their factors."""


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


class Iteration(Products, Protocol):
    """A backend that takes the sign by matrix products, which it supplies."""

    def check(self, settings: Settings, device: torch.device) -> None:
        """Raise BackendError unless it can do what is asked on that device."""

    def sign(self, matrix: Tensor, settings: Settings) -> Tensor:
        """The sign of `matrix` (..., m, n), not empty, in the dtype of the settings.

        Raises:
            NonFiniteError: the iteration diverged (checked on a CPU).
        """
        result = self.polar(fold(matrix), settings)
        if matrix.device.type == "cpu":
            check_converged(result)
        return unfold(result.X, matrix)

    def polar(self, matrix: Tensor, settings: Settings) -> Pair:
        """Both blocks of the polar factor of `[matrix, damping I]`, for a folded `matrix`."""
        pair, schedule = start(matrix, settings)
        return iterate(pair, schedule, self, settings.dtype)


def fold(matrix: Tensor) -> Tensor:
    """(..., m, n) as one batch (k, min(m, n), max(m, n)): tall matrices are transposed."""
    rows, columns = matrix.shape[-2:]
    wide = matrix.mT.contiguous() if rows > columns else matrix
    return wide.reshape(matrix.shape[:-2].numel(), *wide.shape[-2:])


def unfold(folded: Tensor, matrix: Tensor) -> Tensor:
    """Undo `fold`: `folded` in the shape of `matrix`."""
    rows, columns = matrix.shape[-2:]
    return (folded.mT if rows > columns else folded).reshape(matrix.shape)


def scale(matrix: Tensor, damping: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Each matrix (k, m, n) and its damping (k,) over the largest of its entries and the damping.

    In `dtype`, at least as wide as the matrix's. Zero stays zero.
    """
    largest = matrix.abs().amax(dim=(-2, -1)).to(dtype).clamp(min=damping)
    largest = torch.where(largest == 0, 1, largest)
    # A number over a tensor would be multiplied by the reciprocal.
    return matrix / largest[:, None, None], torch.full_like(largest, damping) / largest


def normalise(matrix: Tensor, damping: float, dtype: torch.dtype) -> tuple[Pair, Tensor]:
    """Scale `matrix` (k, m, n) and damping by a bound on the norm of `[matrix, damping I]`.

    By the largest entry first and then by the Frobenius norm, so that nothing overflows or vanishes
    on the way; in `dtype`, at least as wide as the matrix's. Zero stays zero.

    Returns:
        The pair, and for each matrix a bound below which no singular value of its pair lies (k,).
    """
    X, lower = scale(matrix, damping, dtype)
    norm = torch.hypot(torch.linalg.vector_norm(X, dim=(-2, -1)), lower)
    norm = torch.where(norm == 0, 1, norm)
    X, lower = (X / norm[:, None, None]).contiguous(), lower / norm
    if damping == 0:
        return Pair(X, None), lower
    identity = torch.eye(X.shape[-2], dtype=X.dtype, device=X.device)
    return Pair(X, identity * lower[:, None, None]), lower


def start(matrix: Tensor, settings: Settings) -> tuple[Pair, Schedule]:
    """The scaled pair of `matrix` (k, m, n), as wide as its leading steps, and its schedule."""
    widest = torch.promote_types(matrix.dtype, settings.wide)
    pair, bounds = normalise(matrix, settings.damping, widest)
    return pair.to(settings.wide), settings.schedule_for(matrix.shape[-2], bounds)


def iterate(pair: Pair, schedule: Schedule, products: Products, dtype: torch.dtype) -> Pair:
    """Apply the schedule: its leading wide steps in the dtype of the pair, the rest in `dtype`."""
    narrow = pair.to(dtype)
    if gram_fits(narrow, schedule, products.rounding(narrow.X)):
        return _iterate_gram(narrow, schedule, products)
    return _iterate_pair(pair, schedule, products, dtype)


def gram_fits(pair: Pair, schedule: Schedule, rounding: float) -> bool:
    """Whether the Gram form keeps the schedule's promise, and takes fewer flops.

    `rounding` is relative to the largest eigenvalue of `A`, so the relative error of the smallest,
    `lower^2`, is of order `rounding / lower^2` (measured on the sign: 0.02 to 0.2 of it, in the
    spectral norm). That has to be within the promised error. For a square without damping the
    plain form takes fewer flops.
    """
    if schedule.error is None or schedule.wide_steps > 0:
        return False
    m, n = pair.X.shape[-2:]
    keeps = rounding <= schedule.error * schedule.lower**2
    return keeps and (pair.Y is not None or n >= 2 * m)


def _iterate_gram(pair: Pair, schedule: Schedule, products: Products) -> Pair:
    X, Y = pair
    A = products.symmetric(X, X)
    if Y is not None:
        A = products.symmetric(Y, Y, Z=A, beta=1.0)
    Q = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A).contiguous()
    for step, (a, b, c) in enumerate(schedule.polynomials, start=1):
        B = b * A if c == 0 else products.symmetric(A, A, c, Z=A, beta=b)
        Q = products.symmetric(Q, B, Z=Q, beta=a)
        if step < len(schedule):
            A = products.update(products.symmetric(A, B, Z=A, beta=a), B, a)
    X = products.update(X, Q, 0.0)
    return Pair(X, None if Y is None else Q * Y[:, :1, :1])


def _iterate_pair(pair: Pair, schedule: Schedule, products: Products, dtype: torch.dtype) -> Pair:
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
            Y = products.symmetric(Y, B, Z=Y, beta=a)
    return Pair(X, Y).to(dtype)


def check_converged(pair: Pair) -> None:
    """Raise NonFiniteError if the pair contains NaN or infinity; waits for a GPU."""
    if not all(block.isfinite().all() for block in pair if block is not None):
        raise NonFiniteError(
            f"the Newton-Schulz iteration diverged in {pair.X.dtype}: rounding, or the schedule "
            "itself, took singular values past the interval in which its polynomials are bounded; "
            "use a wider dtype, fewer steps, or the default schedule"
        )
