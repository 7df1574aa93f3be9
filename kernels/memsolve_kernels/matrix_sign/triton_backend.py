"""The Triton backend: which kernel, or BLAS, serves each product of the iteration."""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.matrix_sign import (
    measured,
    newton_schulz,
    torch_backend,
)
from memsolve_kernels.matrix_sign.newton_schulz import Pair
from memsolve_kernels.matrix_sign.polynomials import Schedule
from memsolve_kernels.matrix_sign.presets import Kind, find, input_precision, kind_of
from memsolve_kernels.matrix_sign.triton_kernels import batched, symmetric, update


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
            return torch_backend.symmetric(X, Y, alpha, Z, beta)
        tile = find(kind, X.device).symmetric
        return symmetric.symmetric(X, Y, alpha, Z, beta, tile, input_precision(kind))

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X`."""
        kind = kind_of(X.dtype, self._precision)
        if not self._wins("update", kind, X):
            return torch_backend.update(X, B, a)
        tile = find(kind, X.device).update
        return update.update(X, B, a, tile, input_precision(kind))

    def rounding(self, X: Tensor) -> float:
        """That of the kernels; BLAS multiplies only where it rounds no worse."""
        coarse = {"tf32": 2.0**-11, "tf32x3": 2.0**-21} if X.dtype == torch.float32 else {}
        return coarse.get(kind_of(X.dtype, self._precision), torch.finfo(X.dtype).eps)

    def _wins(self, product: measured.Product, kind: Kind, X: Tensor) -> bool:
        if X.dtype == torch.float64:
            return False
        if self._everywhere or not torch_backend.honours(X.dtype, X.device, self._precision):
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
    dtype: torch.dtype,
    precision: Precision | None,
    everywhere: bool,
) -> Pair:
    """Scale and iterate: small matrices in one launch, after the schedule's wide steps.

    Args:
        matrix: (k, m, n), of any dtype.
        damping: `lambda`.
        schedule: the steps, or None for the default.
        steps: how many of the default's, or None for all.
        dtype: to iterate in: float32, float16 or bfloat16.
        precision: of float32 products.
        everywhere: as in `FusedProducts`.
    """
    kind = kind_of(dtype, precision)
    how, limit = input_precision(kind), find(kind, matrix.device).batched_to
    small = batched.padded(max(matrix.shape[-2:])) <= limit
    if small and schedule is not None and schedule.wide_steps == 0 and matrix.dtype == dtype:
        newton_schulz.check_finite(matrix)
        return _checked(batched.scale_and_iterate(matrix, damping, schedule, how))
    products = FusedProducts(precision, everywhere)
    pair, schedule = newton_schulz.start(matrix, damping, schedule, steps, dtype)
    if not small:
        return newton_schulz.iterate(pair, schedule, products, dtype)
    wide, rest = schedule.split(schedule.wide_steps)
    pair = newton_schulz.iterate(pair, wide, products, pair.X.dtype).to(dtype)
    return _checked(batched.iterate(pair, rest, how))


def _checked(pair: Pair) -> Pair:
    if pair.X.device.type == "cpu":
        newton_schulz.check_converged(pair)
    return pair
