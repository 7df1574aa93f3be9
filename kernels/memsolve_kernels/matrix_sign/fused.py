"""The Triton backend: which kernel, or BLAS, serves each product of the iteration."""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.matrix_sign import (
    blas,
    measured,
    newton_schulz,
    triton_batched,
    triton_symmetric,
    triton_update,
)
from memsolve_kernels.matrix_sign.newton_schulz import Pair
from memsolve_kernels.matrix_sign.polynomials import Schedule
from memsolve_kernels.matrix_sign.presets import Kind, find, input_precision, kind_of


class FusedProducts:
    """The products of a step by Triton's kernels where they are the faster, else by BLAS.

    Args:
        precision: of float32 products; None is `tf32x3` or BLAS, whichever the presets prefer.
        everywhere: use the kernels also where BLAS would be faster. Float64 is always BLAS's.
    """

    def __init__(self, precision: Precision | None, everywhere: bool) -> None:
        self._precision = precision
        self._everywhere = everywhere

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z`, known to be symmetric."""
        kind = kind_of(X.dtype, self._precision)
        if not self._wins("symmetric", kind, X):
            return blas.symmetric(X, Y, alpha, Z, beta)
        tile = find(kind, X.device).symmetric
        return triton_symmetric.symmetric(X, Y, alpha, Z, beta, tile, input_precision(kind))

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X`."""
        kind = kind_of(X.dtype, self._precision)
        if not self._wins("update", kind, X):
            return blas.update(X, B, a)
        tile = find(kind, X.device).update
        return triton_update.update(X, B, a, tile, input_precision(kind))

    def _wins(self, product: measured.Product, kind: Kind, X: Tensor) -> bool:
        if X.dtype == torch.float64:
            return False
        if self._everywhere or not blas.honours(X.dtype, self._precision):
            return True
        winner = measured.winner(product, kind, X)
        if winner is not None:
            return winner == "kernel"
        preset = find(kind, X.device)
        first = preset.symmetric_from if product == "symmetric" else preset.update_from
        return X.shape[-2] >= first


def run(
    matrix: Tensor,
    damping: float,
    schedule: Schedule | None,
    steps: int | None,
    precision: Precision | None,
    everywhere: bool,
) -> Pair:
    """Scale and iterate; in one launch where the matrices are small and take no wide steps.

    Args:
        matrix: (k, m, n), float32, float16 or bfloat16.
        damping: `lambda`.
        schedule: the steps, or None for the default.
        steps: how many of them, or None for all.
        precision: of float32 products.
        everywhere: as in `FusedProducts`.
    """
    kind = kind_of(matrix.dtype, precision)
    how, limit = input_precision(kind), find(kind, matrix.device).batched_to
    products = FusedProducts(precision, everywhere)
    if schedule is None and damping == 0:
        schedule = newton_schulz.default_schedule(matrix.dtype)
    if triton_batched.padded(max(matrix.shape[-2:])) > limit:
        pair, schedule = newton_schulz.start(matrix, damping, schedule, steps)
        return newton_schulz.iterate(pair, schedule, products, matrix.dtype)
    if schedule is not None and (matrix.dtype == torch.float32 or schedule.wide_steps == 0):
        newton_schulz.check_finite(matrix)
        schedule = schedule if steps is None else schedule.take(steps)
        result = triton_batched.scale_and_iterate(matrix, damping, schedule, how)
    else:
        pair, schedule = newton_schulz.start(matrix, damping, schedule, steps)
        wide, rest = schedule.split(0 if pair.X.dtype == matrix.dtype else schedule.wide_steps)
        pair = newton_schulz.iterate(pair, wide, products, pair.X.dtype).to(matrix.dtype)
        result = triton_batched.iterate(pair, rest, how)
    if matrix.device.type == "cpu":
        newton_schulz.check_converged(result)
    return result
