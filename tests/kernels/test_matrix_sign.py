"""The matrix sign against its definition, on every backend that runs on a CPU."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memsolve_kernels import matrix_sign
from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.matrix_sign import STOCK, Schedule, minimax, torch_backend
from torch import Tensor

from tests.kernels.matrix_sign_cases import relative_error, spectral_norm, with_spectrum

fast = settings(max_examples=20, deadline=None)
sizes = st.integers(1, 12)
seeds = st.integers(0, 10**6)
dampings = st.sampled_from([0.0, 1e-3, 0.3])

BACKENDS: tuple[BackendName | None, ...] = (None, "torch")  # on a CPU a decomposition, an iteration
either = pytest.mark.parametrize("backend", BACKENDS)


def exact(values: Tensor, damping: float) -> Tensor:
    return values / torch.hypot(values, values.new_tensor(damping))


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("damping", [0.0, 1e-6, 1e-2, 30.0])
@pytest.mark.parametrize("shape", [(20, 20), (12, 30), (30, 12)])
def test_acts_on_singular_values(
    backend: BackendName, damping: float, shape: tuple[int, int]
) -> None:
    values = torch.logspace(0, -5, min(shape), dtype=torch.float64)
    matrix = with_spectrum(values, shape)
    truth = with_spectrum(exact(values, damping), shape)
    assert relative_error(matrix_sign(matrix, damping, backend=backend), truth) < 1e-9


SPECTRA = {
    "geometric": torch.logspace(0, -7, 128, dtype=torch.float64),
    "power law": torch.arange(1, 129, dtype=torch.float64) ** -2,
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(
    ("dtype", "damping", "bound"),
    [
        (torch.float64, 1e-4, 1e-11),
        (torch.float32, 1e-4, 1e-4),
        (torch.float16, 4e-3, 2e-2),
    ],
)
@either
def test_damped_accuracy(
    backend: BackendName | None, spectrum: str, dtype: torch.dtype, damping: float, bound: float
) -> None:
    matrix = with_spectrum(SPECTRA[spectrum], (128, 128)).to(dtype)
    truth = matrix_sign(matrix.double(), damping, backend="reference")
    assert relative_error(matrix_sign(matrix, damping, backend=backend), truth) < bound


def down_to(lower: float, size: int) -> dict[str, Tensor]:
    """Spectra whose Frobenius norm is about the largest singular value, and far above it."""
    flat = torch.ones(size, dtype=torch.float64)
    flat[-1] = lower
    return {
        "geometric": torch.logspace(0, math.log10(lower), size, dtype=torch.float64),
        "flat": flat,
    }


@pytest.mark.parametrize("spectrum", ["geometric", "flat"])
@pytest.mark.parametrize("size", [2, 100, 300])
@either
def test_polar_factor_resolves_its_lower_bound_in_float32(
    backend: BackendName | None, size: int, spectrum: str
) -> None:
    of_the_norm = 1e-6 * size**0.5
    for schedule, lower in ((minimax(1e-6), 1e-6), (None, of_the_norm)):
        matrix = with_spectrum(down_to(lower, size)[spectrum], (size, size)).float()
        sign = matrix_sign(matrix, schedule=schedule, backend=backend).double()
        assert spectral_norm(sign @ sign.T - torch.eye(size)) < 1e-3
    stock = matrix_sign(matrix, schedule="muon").double()
    assert spectral_norm(stock @ stock.T - torch.eye(size)) > 0.9


@pytest.mark.parametrize("spectrum", ["geometric", "flat"])
@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize(("lower", "error"), [(1e-5, 0.1), (1e-2, 1e-3)])
def test_minimax_keeps_its_promise_on_any_matrix(
    lower: float, error: float, degree: int, spectrum: str
) -> None:
    matrix = with_spectrum(down_to(lower, 200)[spectrum], (200, 220))
    ends = torch.linalg.svdvals(matrix_sign(matrix, schedule=minimax(lower, error, degree=degree)))
    assert (ends - 1).abs().max() <= error * 1.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("schedule", ["newton-schulz-5", minimax(1e-4, 1e-2)])
@pytest.mark.parametrize("damping", [1.0, 8.0])
def test_damped_iteration_is_stable_long_after_it_has_converged(
    damping: float, schedule: str | Schedule, dtype: torch.dtype
) -> None:
    """Even a little asymmetry of the damped block, left to grow, ends as an error of any size."""
    matrix = torch.randn(64, 64).to(dtype)
    truth = matrix_sign(matrix.double(), damping, backend="reference")
    sign = matrix_sign(matrix, damping, schedule=schedule)
    assert relative_error(sign, truth) < max(2e-2, 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@either
def test_scales_mix_in_a_batch(backend: BackendName | None, dtype: torch.dtype) -> None:
    matrix = torch.randn(32, 32).to(dtype)
    truth = matrix_sign(matrix.double(), 1.0, backend="reference")
    sign = matrix_sign(torch.stack([matrix, 1e3 * matrix]), 1.0, backend=backend)[0]
    assert relative_error(sign, truth) < 48 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_wide_leading_steps_pay_in_half_precision(dtype: torch.dtype) -> None:
    matrix = with_spectrum(SPECTRA["power law"], (128, 128)).to(dtype)
    truth = matrix_sign(matrix.double(), 1e-3, backend="reference")
    narrow = minimax(5e-4, 1e-2)
    wide = replace(narrow, wide_steps=2)
    assert (
        relative_error(matrix_sign(matrix, 1e-3, schedule=wide), truth)
        < relative_error(matrix_sign(matrix, 1e-3, schedule=narrow), truth) / 3
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("damping", [0.0, 0.1])
@either
def test_zero_gives_zero_alone_and_in_a_batch(
    backend: BackendName | None, dtype: torch.dtype, damping: float
) -> None:
    batch = torch.zeros(3, 4, 6, dtype=dtype)
    assert torch.equal(matrix_sign(batch, damping, backend=backend), batch)
    batch[1] = torch.randn(4, 6)
    sign = matrix_sign(batch, damping, backend=backend)
    assert torch.equal(sign[[0, 2]], batch[[0, 2]])
    assert sign[1].norm() > 1


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 3, 3), (2, 0, 0)])
def test_empty_gives_empty(backend: BackendName, shape: tuple[int, ...]) -> None:
    assert matrix_sign(torch.empty(shape), backend=backend).shape == shape


@either
def test_one_element_gives_its_sign(backend: BackendName | None) -> None:
    numbers = torch.tensor([-3.0, 0.0, 1e-20, 5e8]).reshape(4, 1, 1)
    few = 16 * torch.finfo(torch.float32).eps
    signs = matrix_sign(numbers, backend=backend)
    torch.testing.assert_close(signs, numbers.sign(), rtol=few, atol=0)
    damped = numbers / torch.hypot(numbers, torch.tensor(4.0))
    torch.testing.assert_close(matrix_sign(numbers, 4.0, backend=backend), damped, rtol=few, atol=0)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_rank_deficient_keeps_its_null_space(backend: BackendName) -> None:
    values = torch.tensor([1.0, 0.3, 1e-3, 0, 0], dtype=torch.float64)
    matrix = with_spectrum(values, (5, 8))
    schedule = None if backend == "reference" else minimax(1e-4)
    sign = matrix_sign(matrix, backend=backend, schedule=schedule)
    torch.testing.assert_close(sign, with_spectrum((values > 0).double(), (5, 8)))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float64, 1e-300),
        (torch.float64, 1e300),
        (torch.float32, 1e-39),
        (torch.float32, 1e38),
        (torch.float16, 1e-6),
        (torch.float16, 6e4),
        (torch.bfloat16, 2e-39),
        (torch.bfloat16, 1e38),
    ],
)
@either
def test_neither_overflows_nor_vanishes(
    backend: BackendName | None, dtype: torch.dtype, scale: float
) -> None:
    matrix = (torch.eye(20, dtype=torch.float64) * scale).to(dtype)
    tolerance = 8 * torch.finfo(dtype).eps
    sign = matrix_sign(matrix, backend=backend)
    torch.testing.assert_close(sign, torch.eye(20, dtype=dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_scales_before_it_rounds_to_another_dtype(scale: float, damping: float) -> None:
    matrix = torch.randn(20, 30, dtype=torch.float64)
    truth = matrix_sign(matrix, damping, backend="reference")
    sign = matrix_sign(scale * matrix, scale * damping, dtype=torch.float16)
    assert sign.dtype == torch.float64
    assert 1e-5 < relative_error(sign, truth) < 1e-2


def test_rank_one_has_rank_one_in_the_definition() -> None:
    ones = torch.ones(64, 64)
    torch.testing.assert_close(matrix_sign(ones, backend="reference"), ones / 64)


@either
def test_autocast_does_not_reach_inside(backend: BackendName | None) -> None:
    matrix = torch.randn(20, 20)
    outside = matrix_sign(matrix, 0.01, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(matrix_sign(matrix, 0.01, backend=backend), outside)


def test_a_number_of_any_kind_may_be_the_damping() -> None:
    matrix = torch.randn(5, 5)
    for backend in (*BACKENDS, "reference"):
        expected = matrix_sign(matrix, 0.5, backend=backend)
        for damping in (np.float32(0.5), torch.tensor(0.5)):
            assert torch.equal(matrix_sign(matrix, damping, backend=backend), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@either
def test_leaves_the_callers_tensor_alone(backend: BackendName | None, dtype: torch.dtype) -> None:
    matrix = torch.randn(2, 6, 5).to(dtype).requires_grad_()
    before = matrix.detach().clone()
    sign = matrix_sign(matrix, backend=backend)
    assert torch.equal(matrix, before)
    assert sign.requires_grad
    assert sign.dtype == dtype


@either
def test_strides_do_not_matter(backend: BackendName | None) -> None:
    base = torch.randn(4, 3, 10, 14, dtype=torch.float64)
    view = base.transpose(0, 1)[:, ::2, 1:, ::3]
    assert not view.is_contiguous()
    contiguous = matrix_sign(view.contiguous(), backend=backend)
    torch.testing.assert_close(matrix_sign(view, backend=backend), contiguous)


@pytest.mark.parametrize("damping", [0.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(13, 30), (9, 37), (30, 13), (5, 1)])
@either
def test_on_a_cpu_the_bits_of_a_sign_do_not_depend_on_the_batch(
    backend: BackendName | None, shape: tuple[int, int], dtype: torch.dtype, damping: float
) -> None:
    batch = torch.randn(3, *shape, dtype=dtype)
    batch[0] = torch.outer(batch[0, :, 0], batch[0, 0])  # of low rank, unlike the others
    for matrix, sign in zip(batch, matrix_sign(batch, damping, backend=backend), strict=True):
        assert torch.equal(matrix_sign(matrix.clone(), damping, backend=backend), sign)


@pytest.mark.parametrize("damping", [0.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@either
def test_a_batch_gives_what_each_matrix_gives_alone(
    backend: BackendName | None, dtype: torch.dtype, damping: float
) -> None:
    batch = torch.randn(2, 3, 16, 24, dtype=torch.float64).to(dtype)
    signs = matrix_sign(batch, damping, backend=backend)
    for i, row in enumerate(batch):
        for j, matrix in enumerate(row):
            alone = matrix_sign(matrix, damping, backend=backend)
            torch.testing.assert_close(alone, signs[i, j])


@either
@fast
@given(rows=sizes, columns=sizes, seed=seeds, damping=dampings)
def test_transposing_commutes(
    backend: BackendName | None, rows: int, columns: int, seed: int, damping: float
) -> None:
    matrix = gaussian(rows, columns, seed)
    transposed = matrix_sign(matrix.T.contiguous(), damping, backend=backend)
    if rows == columns:
        assert_near(transposed.T, matrix_sign(matrix, damping, backend=backend), matrix, damping)
    else:
        assert torch.equal(transposed.T, matrix_sign(matrix, damping, backend=backend))


@either
@fast
@given(rows=sizes, columns=sizes, seed=seeds, damping=dampings)
def test_orthogonal_invariance(
    backend: BackendName | None, rows: int, columns: int, seed: int, damping: float
) -> None:
    matrix = gaussian(rows, columns, seed)
    left = torch.linalg.qr(gaussian(rows, rows, seed + 1)).Q
    right = torch.linalg.qr(gaussian(columns, columns, seed + 2)).Q
    turned = matrix_sign(left @ matrix @ right, damping, backend=backend)
    assert_near(
        turned, left @ matrix_sign(matrix, damping, backend=backend) @ right, matrix, damping
    )


@either
@fast
@given(rows=sizes, columns=sizes, seed=seeds, damping=dampings, power=st.integers(-90, 90))
def test_scaling_matrix_and_damping_alike_changes_nothing(
    backend: BackendName | None, rows: int, columns: int, seed: int, damping: float, power: int
) -> None:
    matrix, scale = gaussian(rows, columns, seed), 2.0**power
    scaled = matrix_sign(scale * matrix, scale * damping, backend=backend)
    torch.testing.assert_close(
        scaled, matrix_sign(matrix, damping, backend=backend), rtol=1e-12, atol=1e-12
    )


@either
@fast
@given(rows=sizes, columns=sizes, seed=seeds)
def test_idempotence(backend: BackendName | None, rows: int, columns: int, seed: int) -> None:
    once = matrix_sign(gaussian(rows, columns, seed), backend=backend)
    torch.testing.assert_close(matrix_sign(once, backend=backend), once)


def gaussian(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator)


def assert_near(ours: Tensor, truth: Tensor, matrix: Tensor, damping: float) -> None:
    """Equal up to float64 rounding, amplified by the condition of `[matrix, damping I]`."""
    values = torch.hypot(torch.linalg.svdvals(matrix), torch.tensor(damping).double())
    condition = float(values.max() / values.min())
    assert spectral_norm(ours - truth) < 1e-13 * condition


def test_steps_cut_the_schedule() -> None:
    matrix = torch.randn(5, 5, dtype=torch.float64)
    two = Schedule("two", STOCK["polar-express"].polynomials[:2], 1e-3)
    shortened = matrix_sign(matrix, schedule="polar-express", steps=2)
    assert torch.equal(shortened, matrix_sign(matrix, schedule=two))


def test_steps_are_those_of_the_schedule_that_was_given() -> None:
    matrix, schedule = torch.randn(64, 64), minimax(1e-3, 1e-2)
    cut = matrix_sign(matrix, schedule=schedule, steps=len(schedule))
    assert torch.equal(cut, matrix_sign(matrix, schedule=schedule.take(len(schedule))))


def test_explicit_ieee_is_honoured() -> None:
    matrix = torch.randn(5, 5)
    assert torch.equal(matrix_sign(matrix, precision="ieee"), matrix_sign(matrix, backend="torch"))


@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("size", [8, 9, 21])
def test_symmetric_blocks_agree_with_full_products(
    damping: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_backend, "_BLOCK", 4)
    matrix = torch.randn(2, size, 30, dtype=torch.float64)
    truth = matrix_sign(matrix, damping, backend="reference")
    assert relative_error(matrix_sign(matrix, damping, backend="torch"), truth) < 1e-12


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e9, 1e30])
def test_the_reference_rounds_after_it_scales(scale: float) -> None:
    """In units of a power of two, so that only the digits count."""
    unit = 2.0 ** round(math.log2(scale))
    matrix = torch.randn(2, 4, 6, dtype=torch.float64)
    expected = matrix_sign(matrix.half().double(), 0.1, backend="reference").half().double()
    sign = matrix_sign(unit * matrix, unit * 0.1, backend="reference", dtype=torch.float16)
    torch.testing.assert_close(sign, expected, rtol=0, atol=0)
