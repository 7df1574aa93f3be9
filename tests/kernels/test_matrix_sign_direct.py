"""What the default on a CPU, a decomposition, can do beyond an iteration, and when it serves."""

import math
from typing import Any

import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.matrix_sign import direct_backend, minimax
from torch import Tensor

from tests.kernels.matrix_sign_cases import relative_error, spectral_norm, with_spectrum

LOWEST = 1e-6


def spectra(size: int) -> dict[str, Tensor]:
    """Down to just above the bound of float32: evenly in the logarithm, or half of them there."""
    half = torch.ones(size, dtype=torch.float64)
    half[size // 2 :] = LOWEST
    return {
        "geometric": torch.logspace(0, math.log10(LOWEST), size, dtype=torch.float64),
        "half": half,
    }


@pytest.mark.parametrize("spectrum", ["geometric", "half"])
@pytest.mark.parametrize("shape", [(90, 90), (60, 150), (150, 60)])
@pytest.mark.parametrize("damping", [0.0, 1e-6, 1e-4])
def test_is_exact_where_an_iteration_only_resolves(
    damping: float, shape: tuple[int, int], spectrum: str
) -> None:
    matrix = with_spectrum(spectra(min(shape))[spectrum], shape).float()
    truth = matrix_sign(matrix.double(), damping, backend="reference")
    assert relative_error(matrix_sign(matrix, damping), truth) < 1e-5


def test_the_smallest_rows_need_to_be_decomposed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = with_spectrum(spectra(90)["half"], (90, 90)).float()
    truth = matrix_sign(matrix.double(), backend="reference")
    monkeypatch.setattr(direct_backend, "_SPLIT", 0.0)
    assert relative_error(matrix_sign(matrix), truth) > 1e-4


def test_matrices_of_a_batch_may_differ_in_how_many_small_ones_they_have() -> None:
    easy = with_spectrum(torch.logspace(0, -1, 40, dtype=torch.float64), (40, 50))
    hard = (with_spectrum(spectra(40)[name], (40, 50)) for name in ("geometric", "half"))
    batch = torch.stack([easy, *hard]).float()
    for matrix, sign in zip(batch, matrix_sign(batch), strict=True):
        truth = matrix_sign(matrix.double(), backend="reference")
        assert relative_error(sign, truth) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float64, 1e-10), (torch.float32, 2.0**-23), (torch.float16, 2.0**-10)],
)
def test_below_the_bound_a_singular_value_shrinks_in_proportion(
    dtype: torch.dtype, bound: float
) -> None:
    values = torch.tensor([1.0, 2 * bound, bound / 4, 0.0], dtype=torch.float64)
    signs = torch.tensor([1.0, 1.0, 0.25, 0.0], dtype=dtype)
    assert torch.allclose(matrix_sign(values.diag().to(dtype)), signs.diag(), rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_null_space_of_a_rank_one_matrix_stays_small(dtype: torch.dtype) -> None:
    sign = matrix_sign(torch.ones(64, 64, dtype=dtype))
    assert spectral_norm(sign.double() - 1 / 64) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [{"steps": 9}, {"schedule": minimax(1e-2)}, {"precision": "ieee"}, {"dtype": torch.float16}],
    ids=lambda settings: next(iter(settings)),
)
def test_a_setting_of_an_iteration_selects_one(settings: dict[str, Any]) -> None:
    matrix = torch.randn(20, 30)
    iterated = matrix_sign(matrix, **settings, backend="torch")
    assert torch.equal(matrix_sign(matrix, **settings), iterated)
    assert not torch.equal(matrix_sign(matrix), iterated)
