"""Gradients of low rank, as small batches make them: the default amplifies signal, not rounding."""

import math
from collections.abc import Callable

import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.matrix_sign import minimax
from memsolve_kernels.matrix_sign.settings import Settings
from torch import Tensor

from tests.kernels.matrix_sign_cases import with_spectrum

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
CPU_AND_GPU: tuple[BackendName | None, ...] = (None, "torch")  # a decomposition, an iteration


def product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded once to `dtype`."""
    return (left @ right).to(dtype)


def accumulated(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Of outer products, rounded after each."""
    total = torch.zeros(len(left), right.shape[1], dtype=dtype)
    for column, row in zip(left.mT, right, strict=True):
        total += torch.outer(column, row).to(dtype)
    return total


@pytest.mark.parametrize("make", [product, accumulated])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 64), (256, 256), (64, 512), (512, 128)])
@pytest.mark.parametrize("backend", CPU_AND_GPU)
def test_a_sign_has_the_norm_of_the_true_one(
    backend: BackendName | None,
    shape: tuple[int, int],
    dtype: torch.dtype,
    make: Callable[[Tensor, Tensor, torch.dtype], Tensor],
) -> None:
    for rank in (1, 4, 16):
        left, right = torch.randn(shape[0], rank), torch.randn(rank, shape[1])
        sign = matrix_sign(make(left, right, dtype), backend=backend)
        basis, rows = (torch.linalg.qr(factor.double()).Q for factor in (left, right.mT))
        true = basis @ matrix_sign(basis.mT @ left.double() @ (right.double() @ rows)) @ rows.mT
        assert true.norm().item() == pytest.approx(math.sqrt(rank))
        assert sign.double().norm() < 1.13 * true.norm()
        assert (sign.double() - true).norm() < 0.5 * true.norm()


def test_the_largest_512_square_of_rank_one_too() -> None:
    matrix = torch.outer(*torch.randn(2, 512))
    for dtype in DTYPES:
        for backend in CPU_AND_GPU:
            assert matrix_sign(matrix.to(dtype), backend=backend).double().norm() < 1.13


@pytest.mark.parametrize("dtype", [torch.float64, *DTYPES])
def test_no_singular_value_grows_by_more_than_the_inverse_of_the_bound(dtype: torch.dtype) -> None:
    settings = Settings(dtype, dtype)
    schedule = settings.schedule_for(rank=1)
    assert 0.4 < schedule.slope * settings.lower <= 1
    low, high = schedule.band(8 * settings.lower)
    rounding = 4 * torch.finfo(dtype).eps
    assert 1 - 1.01 * rounding < low < high < 1 + 1.01 * rounding


@pytest.mark.parametrize("dtype", DTYPES)
def test_decomposition_and_iteration_agree_below_the_bound_and_far_above(
    dtype: torch.dtype,
) -> None:
    eps = torch.finfo(dtype).eps
    values = torch.tensor([1.0, 0.5, eps / 2, eps / 8], dtype=torch.float64)
    matrix = values.diag().to(dtype)
    ours, theirs = (matrix_sign(matrix, backend=each).double().diag() for each in CPU_AND_GPU)
    torch.testing.assert_close(ours[:2], theirs[:2], rtol=8 * eps, atol=0)
    assert (theirs[2:] <= ours[2:] * (1 + 8 * eps)).all()
    assert (theirs[2:] > 0.4 * ours[2:]).all()


def test_a_schedule_of_the_callers_amplifies_what_it_was_made_for() -> None:
    matrix = with_spectrum(torch.tensor([1.0, 1e-4]), (20, 20)).bfloat16()
    assert matrix_sign(matrix).double().norm() < 1.2
    assert matrix_sign(matrix, schedule=minimax(1e-4)).double().norm() > 3


def test_the_bound_is_that_of_the_dtype_that_came_in() -> None:
    matrix = torch.outer(*torch.randn(2, 256)).bfloat16()
    for wider in (torch.float32, torch.float64):
        assert matrix_sign(matrix, dtype=wider, backend="torch").double().norm() < 1.13
