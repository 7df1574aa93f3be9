"""One product of the iteration by kernel and by BLAS, for `tuning.fastest` to time."""

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from memsolve_kernels.matrix_sign.newton_schulz import Products

Product = Literal["symmetric", "update"]


class ProductBenchmark:
    """One product of random matrices like `X` (k, m, n), by kernels or by BLAS.

    Accuracy has priority: a kernel whose error exceeds twice that of BLAS (or two roundings) is
    rejected at any speed. Nothing is multiplied before the first `run`.
    """

    def __init__(self, product: Product, X: Tensor, kernels: Products, blas: Products) -> None:
        self._product = product
        self._like = X
        self._kernels = kernels
        self._blas = blas

    def run(self, products: Products) -> Tensor:
        """Compute the product.

        Raises:
            ValueError: the error of the kernels is too large.
        """
        if products is self._kernels:
            kernel, blas = self.errors
            if not kernel <= max(2 * blas, 2 * torch.finfo(self._like.dtype).eps):
                raise ValueError(f"the error of the kernel is {kernel:.1e}, of BLAS {blas:.1e}")
        return self._compute(products)

    @cached_property
    def errors(self) -> tuple[float, float]:
        """Errors of the kernel and of BLAS in the norm, relative to float64."""
        X, B = (factor.double() for factor in self._factors)
        exact = X @ X.mT if self._product == "symmetric" else X + B @ X
        results = (self._compute(each).double() for each in (self._kernels, self._blas))
        kernel, blas = (float((result - exact).norm() / exact.norm()) for result in results)
        return kernel, blas

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        shape, device = self._like.shape, self._like.device
        generator = torch.Generator(device).manual_seed(0)
        normal = torch.randn(shape, device=device, generator=generator).div_(shape[-1] ** 0.5)
        X = normal.to(self._like.dtype)
        return X, self._blas.symmetric(X, X)

    def _compute(self, products: Products) -> Tensor:
        X, B = self._factors
        if self._product == "symmetric":
            return products.symmetric(X, X)
        return products.update(X, B, 1.0)
