"""The Gram form: the same schedule on the small side alone, where its rounding allows it."""

import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.matrix_sign import minimax, newton_schulz
from memsolve_kernels.matrix_sign.newton_schulz import gram_fits
from memsolve_kernels.matrix_sign.scaling import Pair, normalise
from memsolve_kernels.matrix_sign.torch_backend import TorchBackend
from torch import Tensor

from tests.kernels.matrix_sign_cases import relative_error, spectral_norm, with_spectrum

BLAS = TorchBackend()


def flat(lower: float, shape: tuple[int, int]) -> Tensor:
    values = torch.ones(min(shape), dtype=torch.float64)
    values[-1] = lower
    return with_spectrum(values, shape)


@pytest.mark.parametrize("damping", [0.0, 0.05])
@pytest.mark.parametrize("degree", [3, 5])
def test_takes_the_same_steps(damping: float, degree: int) -> None:
    pair, _ = normalise(torch.randn(2, 12, 40), damping, torch.float64)
    schedule = minimax(1e-2, 1e-2, degree=degree)
    gram = newton_schulz._iterate_gram(pair, schedule, BLAS)
    direct = newton_schulz._iterate_pair(pair, schedule, BLAS, torch.float64)
    for ours, expected in zip(gram, direct, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lower", [1e-1, 1e-2, 1e-3])
def test_rounding_stays_below_its_bound(lower: float, dtype: torch.dtype) -> None:
    matrix = flat(lower, (40, 90)).to(dtype)
    truth = matrix_sign(matrix, backend="reference").double()
    schedule = minimax(lower, 1e-12).for_rank(40)
    pair = normalise(matrix[None], 0.0, dtype)[0]
    sign = newton_schulz._iterate_gram(pair, schedule, BLAS).X[0].double()
    bound = torch.finfo(dtype).eps / schedule.lower**2
    assert spectral_norm(sign - truth) < bound + 1e-11


@pytest.mark.parametrize("damping", [0.0, 0.02])
def test_is_used_where_promised_and_keeps_the_promise(
    damping: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    original = newton_schulz._iterate_gram

    def counted(pair: Pair, *others: object) -> Pair:
        used.append(pair)
        return original(pair, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(newton_schulz, "_iterate_gram", counted)
    matrix = flat(1e-3, (60, 150))
    truth = matrix_sign(matrix, damping, backend="reference")
    assert relative_error(matrix_sign(matrix, damping, schedule=minimax(1e-3, 1e-3)), truth) < 2e-3
    assert len(used) == 1
    matrix_sign(matrix, damping, backend="torch")
    matrix_sign(matrix, damping, schedule=minimax(1e-3, 1e-3), steps=20)
    assert len(used) == 1


class Tf32Products:
    """Products whose factors are cut to the eleven significant bits of tf32, as by Triton."""

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        return BLAS.symmetric(tf32(X), tf32(Y), alpha, Z, beta)

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        return a * X + tf32(B) @ tf32(X)

    def rounding(self, X: Tensor) -> float:
        return 2.0**-8


def tf32(X: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(X)
    return torch.ldexp((mantissa * 2**11).trunc(), exponent - 11)


@pytest.mark.parametrize("damping", [0.0, 0.02])
def test_keeps_the_promise_with_coarse_products(damping: float) -> None:
    matrix = flat(0.02, (64, 256)).float()
    schedule = minimax(0.02, 0.1).for_rank(64)
    pair, _ = normalise(matrix[None], damping, torch.float32)
    truth = matrix_sign(matrix, damping, backend="reference").double()
    result = newton_schulz.iterate(pair, schedule, Tf32Products(), torch.float32)
    assert spectral_norm(result.X[0].double() - truth) < 0.11
    assert not gram_fits(pair, schedule, Tf32Products().rounding(pair.X))
    gram = newton_schulz._iterate_gram(pair, schedule, Tf32Products())
    assert spectral_norm(gram.X[0].double() - truth) > 0.2


def test_is_refused_where_rounding_or_flops_forbid_it() -> None:
    single, brain = (torch.finfo(dtype).eps for dtype in (torch.float32, torch.bfloat16))
    wide, square = torch.ones(1, 4, 8), torch.ones(1, 4, 4)
    easy = minimax(0.1, 0.1)
    assert gram_fits(Pair(wide, None), easy, single)
    assert gram_fits(Pair(square, square), easy, single)
    assert not gram_fits(Pair(square, None), easy, single)
    assert not gram_fits(Pair(wide, None), easy, brain)
    assert not gram_fits(Pair(wide, None), minimax(1e-4, 0.1), single)
    assert not gram_fits(Pair(wide, None), minimax(0.1, 1e-6), single)
