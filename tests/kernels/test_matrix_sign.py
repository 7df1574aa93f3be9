"""The matrix sign against its definition, on every backend that runs on a CPU."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memsolve_kernels import matrix_sign
from memsolve_kernels.dispatch import Backend
from memsolve_kernels.errors import (
    BackendError,
    DtypeError,
    InputError,
    NonFiniteError,
    RangeError,
    ShapeError,
)
from memsolve_kernels.matrix_sign import STOCK, Polynomial, Schedule, blas, certify, minimax
from torch import Tensor

from tests.kernels.matrix_sign_cases import relative_error, spectral_norm, with_spectrum

fast = settings(max_examples=20, deadline=None)
sizes = st.integers(1, 12)
seeds = st.integers(0, 10**6)
dampings = st.sampled_from([0.0, 1e-3, 0.3])


def exact(values: Tensor, damping: float) -> Tensor:
    return values / torch.hypot(values, values.new_tensor(damping))


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("damping", [0.0, 1e-6, 1e-2, 30.0])
@pytest.mark.parametrize("shape", [(20, 20), (12, 30), (30, 12)])
def test_acts_on_singular_values(backend: Backend, damping: float, shape: tuple[int, int]) -> None:
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
        (torch.float16, 1e-3, 2e-2),
    ],
)
def test_damped_accuracy(spectrum: str, dtype: torch.dtype, damping: float, bound: float) -> None:
    matrix = with_spectrum(SPECTRA[spectrum], (128, 128)).to(dtype)
    truth = matrix_sign(matrix.double(), damping, backend="reference")
    assert relative_error(matrix_sign(matrix, damping), truth) < bound


def test_polar_factor_resolves_its_lower_bound_in_float32() -> None:
    matrix = with_spectrum(torch.logspace(0, -6, 100, dtype=torch.float64), (100, 100)).float()
    for schedule in (None, minimax(1e-7)):
        sign = matrix_sign(matrix, schedule=schedule).double()
        assert spectral_norm(sign @ sign.T - torch.eye(100)) < 1e-3
    stock = matrix_sign(matrix, schedule="muon").double()
    assert spectral_norm(stock @ stock.T - torch.eye(100)) > 0.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_wide_leading_steps_pay_in_half_precision(dtype: torch.dtype) -> None:
    matrix = with_spectrum(SPECTRA["power law"], (128, 128)).to(dtype)
    truth = matrix_sign(matrix.double(), 1e-3, backend="reference")
    plain = minimax(5e-4, 1e-2)
    assert (
        relative_error(matrix_sign(matrix, 1e-3), truth)
        < relative_error(matrix_sign(matrix, 1e-3, schedule=plain), truth) / 3
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_zero_gives_zero_alone_and_in_a_batch(dtype: torch.dtype, damping: float) -> None:
    batch = torch.zeros(3, 4, 6, dtype=dtype)
    assert torch.equal(matrix_sign(batch, damping), batch)
    batch[1] = torch.randn(4, 6)
    sign = matrix_sign(batch, damping)
    assert torch.equal(sign[[0, 2]], batch[[0, 2]])
    assert sign[1].norm() > 1


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 3, 3), (2, 0, 0)])
def test_empty_gives_empty(backend: Backend, shape: tuple[int, ...]) -> None:
    assert matrix_sign(torch.empty(shape), backend=backend).shape == shape


def test_one_element_gives_its_sign() -> None:
    numbers = torch.tensor([-3.0, 0.0, 1e-20, 5e8]).reshape(4, 1, 1)
    few = 16 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(matrix_sign(numbers), numbers.sign(), rtol=few, atol=0)
    damped = numbers / torch.hypot(numbers, torch.tensor(4.0))
    torch.testing.assert_close(matrix_sign(numbers, 4.0), damped, rtol=few, atol=0)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_rank_deficient_keeps_its_null_space(backend: Backend) -> None:
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
        (torch.float32, 1e-38),
        (torch.float32, 1e38),
        (torch.float16, 1e-6),
        (torch.float16, 6e4),
        (torch.bfloat16, 1e-38),
        (torch.bfloat16, 1e38),
    ],
)
def test_neither_overflows_nor_vanishes(dtype: torch.dtype, scale: float) -> None:
    matrix = (torch.eye(20, dtype=torch.float64) * scale).to(dtype)
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        matrix_sign(matrix), torch.eye(20, dtype=dtype), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_leaves_the_callers_tensor_alone(dtype: torch.dtype) -> None:
    matrix = torch.randn(2, 6, 5).to(dtype).requires_grad_()
    before = matrix.detach().clone()
    sign = matrix_sign(matrix)
    assert torch.equal(matrix, before)
    assert not sign.requires_grad
    assert sign.dtype == dtype


def test_strides_do_not_matter() -> None:
    base = torch.randn(4, 3, 10, 14, dtype=torch.float64)
    view = base.transpose(0, 1)[:, ::2, 1:, ::3]
    assert not view.is_contiguous()
    torch.testing.assert_close(matrix_sign(view), matrix_sign(view.contiguous()))


@pytest.mark.parametrize("damping", [0.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_batch_gives_what_each_matrix_gives_alone(dtype: torch.dtype, damping: float) -> None:
    batch = torch.randn(2, 3, 16, 24, dtype=torch.float64).to(dtype)
    together = matrix_sign(batch, damping)
    for i, row in enumerate(batch):
        for j, matrix in enumerate(row):
            torch.testing.assert_close(matrix_sign(matrix, damping), together[i, j])


@fast
@given(rows=sizes, columns=sizes, seed=seeds, damping=dampings)
def test_transposing_commutes(rows: int, columns: int, seed: int, damping: float) -> None:
    matrix = gaussian(rows, columns, seed)
    transposed = matrix_sign(matrix.T.contiguous(), damping)
    if rows == columns:
        assert_near(transposed.T, matrix_sign(matrix, damping), matrix, damping)
    else:
        assert torch.equal(transposed.T, matrix_sign(matrix, damping))


@fast
@given(rows=sizes, columns=sizes, seed=seeds, damping=dampings)
def test_orthogonal_invariance(rows: int, columns: int, seed: int, damping: float) -> None:
    matrix = gaussian(rows, columns, seed)
    left = torch.linalg.qr(gaussian(rows, rows, seed + 1)).Q
    right = torch.linalg.qr(gaussian(columns, columns, seed + 2)).Q
    turned = matrix_sign(left @ matrix @ right, damping)
    assert_near(turned, left @ matrix_sign(matrix, damping) @ right, matrix, damping)


@fast
@given(rows=sizes, columns=sizes, seed=seeds, damping=dampings, power=st.integers(-90, 90))
def test_scaling_matrix_and_damping_together_changes_nothing(
    rows: int, columns: int, seed: int, damping: float, power: int
) -> None:
    matrix, scale = gaussian(rows, columns, seed), 2.0**power
    scaled = matrix_sign(scale * matrix, scale * damping)
    torch.testing.assert_close(scaled, matrix_sign(matrix, damping), rtol=1e-12, atol=1e-12)


@fast
@given(rows=sizes, columns=sizes, seed=seeds)
def test_idempotence(rows: int, columns: int, seed: int) -> None:
    once = matrix_sign(gaussian(rows, columns, seed))
    torch.testing.assert_close(matrix_sign(once), once)


def gaussian(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator)


def assert_near(ours: Tensor, truth: Tensor, matrix: Tensor, damping: float) -> None:
    """Equal up to float64 rounding, amplified by the condition of `[matrix, damping I]`."""
    values = torch.hypot(torch.linalg.svdvals(matrix), torch.tensor(damping).double())
    condition = float(values.max() / values.min())
    assert spectral_norm(ours - truth) < 1e-13 * condition


@pytest.mark.parametrize("damping", [0.0, 1e-3])
def test_certificate_bounds_the_error(damping: float) -> None:
    matrix = with_spectrum(torch.logspace(0, -4, 40, dtype=torch.float64), (40, 60))
    batch = torch.stack([matrix, matrix.flip(1)])
    certificate = certify(batch, damping)
    assert torch.equal(certificate.sign, matrix_sign(batch, damping))
    for residual in certificate[1:]:
        assert residual.shape == (2,)
        assert residual.max() < 1e-10


def test_certificate_counts_unresolved_directions() -> None:
    values = torch.tensor([1.0, 0.5, 0.2, 1e-12, 1e-12], dtype=torch.float64)
    certificate = certify(with_spectrum(values, (5, 5)), schedule=minimax(1e-2))
    assert certificate.orthogonality.item() == pytest.approx(2**0.5, abs=1e-6)


def test_certificate_sees_a_flipped_sign() -> None:
    flipping = Schedule("flip", (Polynomial(-1.0, 0.0),), 0.5)
    certificate = certify(torch.eye(4), schedule=flipping)
    assert certificate.negativity.item() == pytest.approx(0.25)


def test_certify_refuses_the_reference() -> None:
    with pytest.raises(BackendError, match="truth"):
        certify(torch.eye(2), backend="reference")


def test_divergence_is_an_error() -> None:
    exploding = Schedule("explode", (Polynomial(40.0, -1.0, 1.0),) * 8, 1e-3)
    for function in (matrix_sign, certify):
        with pytest.raises(NonFiniteError, match="diverged"):
            function(torch.eye(5), schedule=exploding)


EYE = torch.eye(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: matrix_sign(torch.ones(3)), ShapeError, r"shape \(3,\)"),
        (lambda: matrix_sign(torch.ones(2, 2, dtype=torch.int64)), DtypeError, "int64"),
        (lambda: matrix_sign(EYE.to(torch.complex64)), DtypeError, "complex64"),
        (lambda: matrix_sign(EYE, -1.0), RangeError, "damping is -1.0"),
        (lambda: matrix_sign(EYE, float("nan")), RangeError, "damping is nan"),
        (lambda: matrix_sign(EYE, float("inf")), RangeError, "damping is inf"),
        (lambda: matrix_sign(EYE * float("nan")), NonFiniteError, "NaN or infinity"),
        (lambda: matrix_sign(EYE * float("inf"), 0.1), NonFiniteError, "NaN or infinity"),
        (lambda: certify(EYE * float("nan")), NonFiniteError, "NaN or infinity"),
        (lambda: matrix_sign(EYE, steps=0), RangeError, "steps is 0"),
        (lambda: matrix_sign(EYE, schedule="moun"), RangeError, "'muon'"),
        (lambda: matrix_sign(EYE, backend="cuda"), BackendError, "'cuda'"),  # type: ignore[arg-type]
        (lambda: matrix_sign(EYE, precision="fp8"), BackendError, "fp8"),  # type: ignore[arg-type]
        (lambda: matrix_sign(EYE, precision="tf32x3"), BackendError, "cannot honour"),
        (lambda: matrix_sign(EYE.half(), precision="ieee"), BackendError, "float16"),
        (lambda: matrix_sign(EYE, backend="reference", steps=3), BackendError, "SVD"),
    ],
)
def test_unusable_arguments_are_refused(
    call: Callable[[], object], error: type[InputError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_steps_cut_the_schedule() -> None:
    matrix = torch.randn(5, 5, dtype=torch.float64)
    two = Schedule("two", STOCK["polar-express"].polynomials[:2], 1e-3)
    shortened = matrix_sign(matrix, schedule="polar-express", steps=2)
    assert torch.equal(shortened, matrix_sign(matrix, schedule=two))


def test_explicit_ieee_is_honoured() -> None:
    matrix = torch.randn(5, 5)
    assert torch.equal(matrix_sign(matrix, precision="ieee"), matrix_sign(matrix))


@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("size", [8, 9, 21])
def test_symmetric_blocks_agree_with_full_products(
    damping: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "_BLOCK", 4)
    matrix = torch.randn(2, size, 30, dtype=torch.float64)
    truth = matrix_sign(matrix, damping, backend="reference")
    assert relative_error(matrix_sign(matrix, damping), truth) < 1e-12
