"""The Triton backend: which kernel, or BLAS, serves each product of the iteration."""

from dataclasses import dataclass

import torch
from torch import Tensor

from memsolve_kernels.architectures import Architecture
from memsolve_kernels.dispatch import Precision, honours
from memsolve_kernels.matrix_sign.contest import Contest, Product
from memsolve_kernels.matrix_sign.newton_schulz import Iteration, Pair, Products, iterate, start
from memsolve_kernels.matrix_sign.presets import Preset, find, input_precision, kind_of
from memsolve_kernels.matrix_sign.settings import Settings
from memsolve_kernels.matrix_sign.torch_backend import TorchBackend
from memsolve_kernels.matrix_sign.triton_kernels import batched, symmetric, update
from memsolve_kernels.tuning import fastest


@dataclass(frozen=True)
class KernelProducts:
    """The products of a step by kernels alone, in float32 or half precision.

    Attributes:
        architecture: whose presets to take.
        precision: of float32 products; None is `tf32x3`.
    """

    architecture: Architecture
    precision: Precision | None

    def preset(self, dtype: torch.dtype) -> Preset:
        """The launch configurations of products in a dtype."""
        return find(kind_of(dtype, self.precision), self.architecture.presets)

    def input_precision(self, dtype: torch.dtype) -> Precision:
        """Triton's name for how products in a dtype are made."""
        return input_precision(kind_of(dtype, self.precision))

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z`, known to be symmetric."""
        tile, precision = self.preset(X.dtype).symmetric, self.input_precision(X.dtype)
        return symmetric.symmetric(X, Y, alpha, Z, beta, tile, precision)

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X`."""
        return update.update(X, B, a, self.preset(X.dtype).update, self.input_precision(X.dtype))

    def rounding(self, X: Tensor) -> float:
        """That of the kind of product, relative to its factors; tf32 is cut, not rounded."""
        coarse = {"tf32": 2.0**-8, "tf32x3": 2.0**-20} if X.dtype == torch.float32 else {}
        return coarse.get(kind_of(X.dtype, self.precision), torch.finfo(X.dtype).eps)


class TritonBackend(Iteration):
    """The iteration by kernels where they are the faster, else by BLAS; small ones in one launch.

    Args:
        kernels: the products by kernels, in the precision that is asked for.
        everywhere: use them also where BLAS would be faster. Float64 is always BLAS's.
    """

    def __init__(self, kernels: KernelProducts, everywhere: bool) -> None:
        self._kernels = kernels
        self._blas = TorchBackend()
        self._everywhere = everywhere

    def check(self, settings: Settings, device: torch.device) -> None:
        """Nothing that has a kernel is refused."""

    def polar(self, matrix: Tensor, settings: Settings) -> Pair:
        """Both blocks of the polar factor of `[matrix, damping I]`, for a folded `matrix`.

        Of small matrices in one launch, but for the schedule's wide steps, which go before.
        """
        small = self._kernels.preset(settings.dtype).batched_to
        with torch.cuda.device_of(matrix):  # Triton launches on the current device
            if batched.padded(max(matrix.shape[-2:])) > small:
                return super().polar(matrix, settings)
            precision = self._kernels.input_precision(settings.dtype)
            given = settings.schedule
            if given is not None and given.wide_steps == 0 and matrix.dtype == settings.dtype:
                schedule = settings.schedule_for(matrix.shape[-2])
                return batched.scale_and_iterate(matrix, settings.damping, schedule, precision)
            pair, schedule = start(matrix, settings)
            wide, rest = schedule.split(schedule.wide_steps)
            pair = iterate(pair, wide, self, settings.wide).to(settings.dtype)
            return batched.iterate(pair, rest, precision)

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z`, known to be symmetric."""
        return self._by("symmetric", X).symmetric(X, Y, alpha, Z, beta)

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X`."""
        return self._by("update", X).update(X, B, a)

    def rounding(self, X: Tensor) -> float:
        """That of the kernels; BLAS multiplies only where it rounds no worse."""
        return self._kernels.rounding(X)

    def _by(self, product: Product, X: Tensor) -> Products:
        """Who makes this product of matrices like `X`: as the presets say, or by measurement."""
        if X.dtype == torch.float64:
            return self._blas
        kernels = self._kernels
        if self._everywhere or not honours(X.dtype, X.device, kernels.precision):
            return kernels
        preset = kernels.preset(X.dtype)
        first = preset.symmetric_from if product == "symmetric" else preset.update_from
        ways: tuple[Products, ...] = kernels, self._blas
        return fastest(
            (product, kernels, X.dtype, X.shape, X.device),
            ways if X.shape[-2] >= first else ways[::-1],
            Contest(product, X, *ways).run,
        )
