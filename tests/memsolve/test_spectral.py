"""Steps with other singular values, against their definitions in float64."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memsolve import AssociativeMemory, InputError
from memsolve.optim import Kaon, Muon, RandomSpectrum, SpectralPower
from memsolve.optim.spectral import SpectralOptimizer

POWERS = st.sampled_from([-0.25, 0.0, 0.3, 0.5, 1.0, 2.0])
CLASSES = SpectralPower, RandomSpectrum, Kaon


def random_matrix(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step_of(make: Callable[..., SpectralOptimizer], gradient: Tensor, **settings: Any) -> Tensor:
    """The change of a weight in one step with learning rate -1: `U f(S) V^T`."""
    param = torch.nn.Parameter(torch.zeros_like(gradient))
    param.grad = gradient
    make([param], lr=1.0, **settings).step()
    return -param.detach()


def orthogonal(size: int, seed: int) -> Tensor:
    factor: Tensor = torch.linalg.qr(random_matrix(size, size, seed=seed)).Q
    return factor


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), POWERS, st.integers(0, 9))
def test_a_step_is_the_definition(rows: int, columns: int, power: float, seed: int) -> None:
    gradient = random_matrix(rows, columns, seed=seed)
    left, values, right = torch.linalg.svd(gradient, full_matrices=False)
    expected = left @ torch.diag(values**power) @ right
    torch.testing.assert_close(step_of(SpectralPower, gradient, power=power), expected)


def test_the_ends_are_sgd_and_the_polar_factor() -> None:
    memory = AssociativeMemory(400, 20, 1.5, seed=1)
    gradient = memory.gradient_at_zero(memory.population())
    torch.testing.assert_close(step_of(SpectralPower, gradient, power=1.0), gradient)
    param = torch.nn.Parameter(torch.zeros_like(gradient))
    param.grad = gradient
    Muon([param], lr=1.0, momentum=0.0, backend="reference").step()
    torch.testing.assert_close(step_of(SpectralPower, gradient, power=0.0), -param.detach())


@settings(deadline=None)
@given(POWERS, st.integers(0, 9), st.floats(0.01, 100))
def test_a_step_turns_with_the_gradient_and_has_the_degree_of_its_power(
    power: float, seed: int, scale: float
) -> None:
    gradient = random_matrix(4, 6, seed=seed)
    left, right = orthogonal(4, seed + 10), orthogonal(6, seed + 20)
    step = step_of(SpectralPower, gradient, power=power)
    turned = step_of(SpectralPower, left @ gradient @ right, power=power)
    torch.testing.assert_close(turned, left @ step @ right, rtol=1e-6, atol=1e-9)
    scaled = step_of(SpectralPower, scale * gradient, power=power)
    torch.testing.assert_close(scaled, scale**power * step, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("power", [-0.25, 0.0, 0.5])
def test_singular_values_that_are_rounding_stay_zero(dtype: torch.dtype, power: float) -> None:
    exact = torch.zeros(30, 20, dtype=torch.float64)
    exact[:, :3] = random_matrix(30, 3)
    turned = exact @ orthogonal(20, 5)
    values = torch.linalg.svdvals(step_of(SpectralPower, turned.to(dtype), power=power).double())
    assert int((values > 0.02 * values[0]).sum()) == 3
    zero = torch.zeros(4, 3, dtype=dtype)
    for make in CLASSES:
        assert torch.equal(step_of(make, zero), zero)


def test_random_singular_values_are_uniform_with_mean_one_and_seeded() -> None:
    gradient = random_matrix(200, 200)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = step_of(RandomSpectrum, gradient)
        other = step_of(RandomSpectrum, gradient)
        torch.manual_seed(1)
        again = step_of(RandomSpectrum, gradient)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    left, _, right = torch.linalg.svd(gradient)
    diagonal = torch.diag(left.T @ first @ right.T)
    torch.testing.assert_close(left @ torch.diag(diagonal) @ right, first)
    assert 0 <= float(diagonal.min()) < 0.1
    assert 1.9 < float(diagonal.max()) <= 2
    assert float(diagonal.mean()) == pytest.approx(1, abs=0.15)


def test_kaon_iterates_the_singular_values() -> None:
    gradient = torch.diag(torch.tensor([3.0, 4.0, 1e-4], dtype=torch.float64))
    values = torch.linalg.svdvals(step_of(Kaon, gradient, steps=1))
    relative = torch.tensor([0.6, 0.8, 2e-5], dtype=torch.float64)
    expected = 4.1 * relative * (1 - relative**2) ** 2 / 1.175
    torch.testing.assert_close(values, expected.sort(descending=True).values)
    many = torch.linalg.svdvals(step_of(Kaon, random_matrix(40, 40), steps=20))
    assert 0 < float(many[-1]) < float(many[0]) <= 1 + 1e-3


def test_momentum_is_a_running_mean_and_decay_is_decoupled() -> None:
    first, second = random_matrix(3, 4, seed=1), random_matrix(3, 4, seed=2)
    start = random_matrix(3, 4, seed=3)
    param = torch.nn.Parameter(start.clone())
    optimizer = SpectralPower([param], lr=0.5, power=0.5, momentum=0.9, weight_decay=0.1)
    expected, mean = start, torch.zeros_like(start)
    for gradient in (first, second):
        param.grad = gradient.clone()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient
        expected = 0.95 * expected - 0.5 * step_of(SpectralPower, mean, power=0.5)
    torch.testing.assert_close(param.detach(), expected)
    torch.testing.assert_close(optimizer.state[param]["momentum_buffer"], mean)


def test_a_kernel_is_one_matrix() -> None:
    kernel = random_matrix(4, 3, 2, 2)
    step = step_of(SpectralPower, kernel, power=0.25)
    matrix = step_of(SpectralPower, kernel.reshape(4, 12), power=0.25)
    torch.testing.assert_close(step, matrix.reshape(4, 3, 2, 2))


@pytest.mark.parametrize("make", CLASSES)
def test_a_state_continues_in_another_optimizer(make: type[SpectralOptimizer]) -> None:
    param = torch.nn.Parameter(random_matrix(3, 3))
    optimizer = make([param], lr=0.5, momentum=0.9)  # type: ignore[call-arg]
    param.grad = random_matrix(3, 3, seed=1)
    optimizer.step()
    stored = io.BytesIO()
    torch.save(optimizer.state_dict(), stored)
    other = torch.nn.Parameter(param.detach().clone())
    loaded = make([other], lr=3.0)  # type: ignore[call-arg]
    loaded.load_state_dict(torch.load(io.BytesIO(stored.getvalue())))
    for one, each in ((param, optimizer), (other, loaded), (param, copy.deepcopy(optimizer))):
        one.grad = random_matrix(3, 3, seed=2)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            each.step()
    torch.testing.assert_close(param.detach(), other.detach())


def test_closures_and_missing_gradients() -> None:
    used, unused = (torch.nn.Parameter(random_matrix(2, 2, seed=seed)) for seed in (0, 1))
    before = unused.detach().clone()
    optimizer = SpectralPower([used, unused], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return float(loss.detach())

    first = optimizer.step(closure)
    assert closure() < first
    assert torch.equal(unused.detach(), before)
    assert unused not in optimizer.state


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (SpectralPower, {"power": float("nan")}, "power is nan; expected a finite number"),
        (SpectralPower, {"power": "half"}, "power is 'half'; expected a finite number"),
        (SpectralPower, {"lr": -1}, r"lr is -1; expected a number in \[0, inf\)"),
        (SpectralPower, {"momentum": 1.0}, r"momentum is 1.0; expected a number in \[0, 1.0\)"),
        (RandomSpectrum, {"weight_decay": -0.1}, "weight_decay is -0.1"),
        (Kaon, {"steps": 0}, "steps is 0; expected an integer of at least 1"),
    ],
)
def test_bad_settings_are_refused(
    make: type[SpectralOptimizer], settings: dict[str, Any], message: str
) -> None:
    param = torch.nn.Parameter(random_matrix(2, 2))
    with pytest.raises(InputError, match=message):
        make([param], **settings)
    optimizer = make([param])  # type: ignore[call-arg]
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(InputError, match=message):
        optimizer.load_state_dict(before | {"param_groups": [before["param_groups"][0] | settings]})
    assert optimizer.state_dict() == before


def test_parameters_that_are_no_matrices_are_refused_by_name() -> None:
    matrix = torch.nn.Parameter(random_matrix(2, 2))
    optimizer = SpectralPower([("weight", matrix)])
    bias = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(InputError, match=r"'bias' has shape \(3,\); expected a matrix"):
        optimizer.add_param_group({"params": [("bias", bias)]})
    assert len(optimizer.param_groups) == 1
    phases = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
    with pytest.raises(InputError, match=r"has dtype torch\.complex64"):
        SpectralPower([phases])


def test_a_step_that_raises_changes_nothing() -> None:
    good, bad = (torch.nn.Parameter(random_matrix(2, 2, seed=seed)) for seed in (0, 1))
    before = good.detach().clone()
    optimizer = SpectralPower([good, bad], momentum=0.9)
    good.grad, bad.grad = random_matrix(2, 2), torch.full((2, 2), torch.nan, dtype=torch.float64)
    with pytest.raises(InputError, match="contains NaN or infinity"):
        optimizer.step()
    bad.grad = torch.eye(2, dtype=torch.float64).to_sparse()
    with pytest.raises(InputError, match="expected a dense one"):
        optimizer.step()
    assert torch.equal(good.detach(), before)
    assert not optimizer.state
