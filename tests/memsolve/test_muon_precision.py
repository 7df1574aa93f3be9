"""Muon's options for low precision: the dtype of momentum, Kahan summation, relative damping."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import InputError, NonFiniteError
from torch import Tensor
from torch.nn import Parameter

from memsolve import theory
from memsolve.optim import Muon
from memsolve.optim.kahan import join, split

HALF = [torch.bfloat16, torch.float16]


def gradients(count: int, *shape: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    yield from torch.randn(count, *shape, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("momentum_dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_running_mean_and_its_sign_are_in_the_dtype_of_momentum(
    dtype: torch.dtype, momentum_dtype: torch.dtype
) -> None:
    weight = Parameter(torch.zeros(4, 6, dtype=dtype))
    optimizer = Muon([weight], lr=0.5, momentum=0.8, momentum_dtype=momentum_dtype)
    mean = torch.zeros(4, 6, dtype=momentum_dtype)
    for gradient in gradients(3, 4, 6):
        weight.grad = gradient.to(dtype)
        before = weight.detach().clone()
        optimizer.step()
        rounded = weight.grad.to(momentum_dtype)
        mean = torch.lerp(mean, rounded, 0.2)
        assert optimizer.state[weight]["momentum_buffer"].dtype == momentum_dtype
        sign = matrix_sign(torch.lerp(rounded, mean, 0.8))
        expected = before.float() - 0.5 * sign.to(dtype).float()
        torch.testing.assert_close(weight.detach(), expected.to(dtype))


@pytest.mark.parametrize("use_muon", [True, False])
def test_a_state_keeps_the_bits_that_torch_would_round(use_muon: bool) -> None:
    def make() -> tuple[Parameter, Muon]:
        weight = Parameter(torch.ones(3, 3, dtype=torch.bfloat16))
        group = {"params": [weight], "use_muon": use_muon}
        return weight, Muon([group], momentum_dtype=torch.float32, kahan_sum=True)

    (weight, optimizer), (other, loaded) = make(), make()
    for gradient in gradients(2, 3, 3):
        weight.grad = gradient.bfloat16()
        optimizer.step()
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state[weight].keys() == loaded.state[other].keys()
    for name, value in optimizer.state[weight].items():
        assert value.dtype == (torch.bfloat16 if name == "compensation" else torch.float32)
        assert torch.equal(loaded.state[other][name], value)


def test_a_gradient_that_overflows_the_dtype_of_momentum_is_refused() -> None:
    weight = Parameter(torch.zeros(2, 2))
    weight.grad = 1e6 * torch.eye(2)
    with pytest.raises(NonFiniteError, match="rounded to momentum_dtype"):
        Muon([weight], momentum_dtype=torch.float16).step()


@pytest.mark.parametrize("settings", [{}, {"lr": torch.tensor(4e-4), "foreach": False}])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("use_muon", [True, False])
def test_kahan_summation_follows_the_trajectory_in_float32(
    use_muon: bool, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    """Where each step is below the rounding of the parameter, so that without it none moves."""
    start = 1 + torch.rand(8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)

    def end(dtype: torch.dtype, kahan_sum: bool) -> Tensor:
        weight = Parameter(start.to(dtype, copy=True))
        group: dict[str, Any] = {"params": [weight], "use_muon": use_muon, "weight_decay": 0.5}
        group |= {"lr": 4e-4} | {name: settings[name] for name in settings if name == "lr"}
        foreach = settings.get("foreach")
        if use_muon:
            group["momentum_dtype"] = torch.float32
        optimizer = Muon([group], kahan_sum=kahan_sum, foreach=foreach)
        for gradient in gradients(60, 8, 8):
            weight.grad = (gradient + 1).to(dtype)
            optimizer.step()
        rest = optimizer.state[weight].get("compensation")
        return weight.detach().float() if rest is None else join(weight.detach(), rest)

    truth, rounding = end(torch.float32, kahan_sum=False), torch.finfo(dtype).eps
    assert (truth - start).abs().min() > rounding
    compensated = (end(dtype, kahan_sum=True) - truth).abs().max()
    assert compensated < 0.3 * rounding
    assert compensated < 0.1 * (end(dtype, kahan_sum=False) - truth).abs().max()


@limits(deadline=None)
@given(st.floats(-1e4, 1e4, width=32), st.sampled_from(HALF))
def test_parameter_and_compensation_are_the_parts_of_one_number(
    value: float, dtype: torch.dtype
) -> None:
    exact, param, rest = torch.tensor([value]), torch.zeros(1, dtype=dtype), torch.zeros(1)
    rest = rest.to(dtype)
    split(exact, param, rest)
    assert torch.equal(param, exact.to(dtype))
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal
    torch.testing.assert_close(join(param, rest), exact, rtol=eps**2 / 4, atol=tiny * eps)


def test_kahan_summation_changes_nothing_in_float32() -> None:
    ends = []
    for kahan_sum in (True, False):
        weight = Parameter(torch.ones(3, 3))
        optimizer = Muon([weight], kahan_sum=kahan_sum)
        for gradient in gradients(2, 3, 3):
            weight.grad = gradient
            optimizer.step()
        assert "compensation" not in optimizer.state[weight]
        ends.append(weight.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_damping_relative_to_the_frobenius_norm_keeps_one_batch(
    size: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Size] = []

    def counted(matrix: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(matrix.shape)
        return matrix_sign(matrix, *args, **kwargs)

    monkeypatch.setattr("memsolve.optim.muon_update.matrix_sign", counted)
    params = [Parameter(torch.zeros(4, 6, dtype=dtype)) for _ in range(4)]
    scales = size, 3 * size, size / 7, 0.0
    for param, gradient, scale in zip(params, gradients(4, 4, 6), scales, strict=True):
        param.grad = (scale * gradient).to(dtype)
    optimizer = Muon(params, lr=1.0, momentum=0.0, relative_damping=0.3, damping_norm="frobenius")
    optimizer.step()
    assert calls == [(4, 4, 6)]
    for param in params:
        assert param.grad is not None
        exact = param.grad.double()
        expected = -matrix_sign(exact, 0.3 * float(exact.norm()), backend="reference")
        close = 32 * torch.finfo(dtype).eps
        torch.testing.assert_close(param.detach().double(), expected, rtol=close, atol=close)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum_dtype": torch.int32}, "momentum_dtype is torch.int32; expected a floating"),
        (
            {"momentum_dtype": torch.float8_e5m2},
            "momentum_dtype is torch.float8_e5m2; expected one",
        ),
        ({"damping_norm": "nuclear"}, r"damping_norm is 'nuclear'; expected one of"),
        ({"kahan_sum": 1}, r"kahan_sum is 1; expected one of \(True, False\)"),
    ],
)
def test_unusable_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Muon([Parameter(torch.zeros(2, 2))], **settings)


def test_a_law_is_that_of_muon_in_full_precision_only() -> None:
    def method(group: dict[str, Any] | None = None, **settings: Any) -> Any:
        groups = [{"params": [Parameter(torch.zeros(2, 2))], **(group or {})}]
        optimizer = Muon(groups, momentum=0.0, **settings)
        return theory.method_of(optimizer, bound=theory.DampingBound(1.0, 1.0))

    assert method(kahan_sum=True) == "muon"
    assert method(relative_damping=0.1) == "muon"
    assert method(relative_damping=0.1, damping_norm="frobenius") is None
    assert method(momentum_dtype=torch.bfloat16) is None
    assert method({"use_muon": False}) is None
