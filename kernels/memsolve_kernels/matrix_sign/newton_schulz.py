"""The Newton-Schulz iteration: `h_damping` by matrix products, for any backend.

Without damping, `X <- a X + (b A + c A^2) X` with `A = X X^T`. With damping, `h_damping(G)` is the
first block of the polar factor of `[G, damping I]`; the iteration carries the two blocks `X` (m, n)
and `Y` (m, m) separately and never forms the augmented matrix: `A = X X^T + Y Y^T`, and both blocks
get the same update. `Y` is a polynomial in `G G^T`, so it is symmetric and commutes with `A`. It
stays on the left of its products: in `B Y^T` the asymmetry due to rounding would grow each step.

The Gram form iterates on `A`, by symmetric products of the small side, and multiplies `X` once, at
the end. `A` has squared singular values, which rounding affects more: see `gram_fits`.

A product's rounding error is relative to the largest singular value, so that the first steps, in
which the small ones are smallest, determine their accuracy. The default schedule takes its first
two steps in a wider dtype, which reduces the error by a factor of three to ten.
"""

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.matrix_sign.interface import MatrixSignBackend
from memsolve_kernels.matrix_sign.polynomials import Schedule
from memsolve_kernels.matrix_sign.scaling import Pair, fold, normalise, unfold
from memsolve_kernels.matrix_sign.settings import Settings


class Products(Protocol):
    """The products of a step, on batches of contiguous matrices."""

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z` of `X`, `Y` (k, m, n) and `Z` (k, m, m), if symmetric."""

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X` of `X` (k, m, n) and `B` (k, m, m)."""

    def rounding(self, X: Tensor) -> float:
        """Rounding error of products of matrices like `X`, relative to their factors."""


class NewtonSchulzBackend(MatrixSignBackend):
    """A backend that computes the sign by the iteration, with its own `Products`."""

    @abstractmethod
    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """As in `Products`."""

    @abstractmethod
    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """As in `Products`."""

    @abstractmethod
    def rounding(self, X: Tensor) -> float:
        """As in `Products`."""

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


def start(matrix: Tensor, settings: Settings) -> tuple[Pair, Schedule]:
    """The scaled pair of `matrix` (k, m, n), in the dtype of the leading steps; its schedule."""
    wide = settings.wide_dtype(matrix.device)
    widest = torch.promote_types(matrix.dtype, wide)
    pair, bounds = normalise(matrix, settings.damping, widest)
    return pair.to(wide), settings.schedule_for(matrix.shape[-2], bounds)


def iterate(pair: Pair, schedule: Schedule, products: Products, dtype: torch.dtype) -> Pair:
    """Apply the schedule: its leading wide steps in the dtype of the pair, the rest in `dtype`."""
    narrow = pair.to(dtype)
    if gram_fits(narrow, schedule, products.rounding(narrow.X)):
        return _iterate_gram(narrow, schedule, products)
    return _iterate_pair(pair, schedule, products, dtype)


def gram_fits(pair: Pair, schedule: Schedule, rounding: float) -> bool:
    """Whether the Gram form keeps the schedule's error bound, and takes fewer flops.

    `rounding` is relative to the largest eigenvalue of `A`, so the relative error of the smallest,
    `lower^2`, is of order `rounding / lower^2` (measured on the sign: 0.02 to 0.2 of it, in the
    spectral norm). It must be within the schedule's error. For a square without damping the
    direct form takes fewer flops.
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
            "itself, moved singular values out of the interval in which its polynomials are "
            "bounded; "
            "use a wider dtype, fewer steps, or the default schedule"
        )
