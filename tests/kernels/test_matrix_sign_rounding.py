"""How far products of float32 on tensor cores are from exact, which decides on the Gram form."""

import numpy as np
import pytest
import torch
from memsolve_kernels.dispatch import Precision

pytest.importorskip("triton")

from memsolve_kernels.matrix_sign.triton_backend import KernelProducts

from tests.kernels.tensor_cores import Product, tf32, tf32x3


@pytest.mark.parametrize(("precision", "product"), [("tf32", tf32), ("tf32x3", tf32x3)])
def test_rounding_is_the_most_that_a_product_errs_or_little_more(
    precision: Precision, product: Product
) -> None:
    x = np.random.default_rng(0).uniform(1, 2, 1000).astype(np.float32)  # all bits, one exponent
    exact = np.outer(x.astype(np.float64), x)
    error = float(np.abs(product(x[:, None], x[None, :]) / exact - 1).max())
    rounding = KernelProducts(90, precision).rounding(torch.ones(1))
    assert rounding / 4 < error <= rounding
