"""The Triton backend: kernels or BLAS for each product of the iteration."""

from dataclasses import dataclass

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Precision, torch_honours
from memsolve_kernels.matrix_sign.newton_schulz import (
    NewtonSchulzBackend,
    Products,
    iterate,
    start,
)
from memsolve_kernels.matrix_sign.presets import (
    ProductPolicy,
    kind_of,
    select_policy,
)
from memsolve_kernels.matrix_sign.product_benchmark import Product, ProductBenchmark
from memsolve_kernels.matrix_sign.scaling import Pair
from memsolve_kernels.matrix_sign.settings import Settings
from memsolve_kernels.matrix_sign.torch_backend import TorchBackend
from memsolve_kernels.matrix_sign.triton_kernels import batched, symmetric, update
from memsolve_kernels.tuning import fastest


@dataclass(frozen=True)
class KernelProducts:
    """The products of a step by kernels, in float32 or half precision.

    Attributes:
        preset_arch: the architecture, such as 90, whose presets are used.
        precision: of float32 products; None is `tf32x3`.
    """

    preset_arch: int
    precision: Precision | None

    def policy(self, dtype: torch.dtype) -> tuple[ProductPolicy, Precision]:
        """The row of presets for products in a dtype, and Triton's `input_precision` of them."""
        return select_policy(dtype, self.precision, self.preset_arch)

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z`, if symmetric."""
        policy, precision = self.policy(X.dtype)
        return symmetric.symmetric(X, Y, alpha, Z, beta, policy.symmetric, precision)

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X`."""
        policy, precision = self.policy(X.dtype)
        return update.update(X, B, a, policy.update, precision)

    def rounding(self, X: Tensor) -> float:
        """That of the kind of product, relative to its factors; tf32 truncates, not rounds."""
        coarse = {"tf32": 2.0**-8, "tf32x3": 2.0**-20} if X.dtype == torch.float32 else {}
        return coarse.get(kind_of(X.dtype, self.precision), torch.finfo(X.dtype).eps)


class TritonBackend(NewtonSchulzBackend):
    """The iteration by kernels if they are faster, else by BLAS; small matrices in one launch.

    Args:
        kernels: the products by kernels.
        everywhere: use them even if BLAS is faster. BLAS always multiplies float64.
    """

    def __init__(self, kernels: KernelProducts, everywhere: bool) -> None:
        self._kernels = kernels
        self._blas = TorchBackend()
        self._everywhere = everywhere

    def check(self, settings: Settings, device: torch.device) -> None:
        """Every call with a kernel is supported."""

    def polar(self, matrix: Tensor, settings: Settings) -> Pair:
        """Both blocks of the polar factor of `[matrix, damping I]`, for a folded `matrix`.

        Small matrices take one launch, after the schedule's wide steps.
        """
        policy, precision = self._kernels.policy(settings.dtype)
        with torch.cuda.device_of(matrix):  # Triton launches on the current device
            if batched.padded(max(matrix.shape[-2:])) > policy.batched_to:
                return super().polar(matrix, settings)
            no_wide_steps = settings.schedule is not None and settings.schedule.wide_steps == 0
            if no_wide_steps and matrix.dtype == settings.dtype:
                schedule = settings.schedule_for(matrix.shape[-2])
                return batched.scale_and_iterate(matrix, settings.damping, schedule, precision)
            pair, schedule = start(matrix, settings)
            wide, rest = schedule.split(schedule.wide_steps)
            pair = iterate(pair, wide, self, pair.X.dtype).to(settings.dtype)
            return batched.iterate(pair, rest, precision)

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z`, if symmetric."""
        return self._products("symmetric", X).symmetric(X, Y, alpha, Z, beta)

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X`."""
        return self._products("update", X).update(X, B, a)

    def rounding(self, X: Tensor) -> float:
        """That of the kernels; BLAS multiplies only if it is at least as precise."""
        return self._kernels.rounding(X)

    def _products(self, product: Product, X: Tensor) -> Products:
        """Kernels or BLAS for this product of matrices like `X`: by the presets or by timing."""
        if X.dtype == torch.float64:
            return self._blas
        kernels = self._kernels
        if self._everywhere or not torch_honours(X.dtype, X.device, kernels.precision):
            return kernels
        policy, _ = kernels.policy(X.dtype)
        threshold = policy.symmetric_from if product == "symmetric" else policy.update_from
        candidates: tuple[Products, ...] = kernels, self._blas
        return fastest(
            (product, kernels, X.dtype, X.shape, X.device),
            candidates if X.shape[-2] >= threshold else candidates[::-1],
            ProductBenchmark(product, X, *candidates).run,
        )
