"""Muon: the same optimizer as torch's if set up like it, and a more exact one by default."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import (
    BackendError,
    DtypeError,
    InputError,
    NonFiniteError,
    RangeError,
    ShapeError,
)
from memsolve_kernels.matrix_sign import minimax
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Parameter

from memsolve import AssociativeMemory
from memsolve.optim import Muon

SHAPES = [(6, 6), (4, 9), (9, 4)]


def train(
    make: Callable[[list[Parameter]], torch.optim.Optimizer],
    shapes: list[tuple[int, ...]] = SHAPES,  # type: ignore[assignment]
    steps: int = 4,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """Parameters after some steps on gradients that depend on the parameters."""
    generator = torch.Generator().manual_seed(0)
    params = [Parameter(torch.randn(shape, dtype=dtype, generator=generator)) for shape in shapes]
    optimizer = make(params)
    for _ in range(steps):
        for param in params:
            noise = torch.randn(param.shape, dtype=dtype, generator=generator)
            param.grad = param.detach() + noise
        optimizer.step()
    return [param.detach() for param in params]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.5, "nesterov": False},
        {"momentum": 0.0},
        {"weight_decay": 0.3, "adjust_lr_fn": "match_rms_adamw"},
    ],
)
def test_makes_the_steps_of_torch_around_the_same_sign(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "torch.optim._muon._zeropower_via_newtonschulz", lambda grad, *_: matrix_sign(grad)
    )
    settings = {"lr": 0.1, "weight_decay": 0.0, **settings}
    ours = train(lambda params: Muon(params, **settings))
    torchs = train(lambda params: torch.optim.Muon(params, **settings))
    for mine, theirs in zip(ours, torchs, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
def test_five_stock_steps_in_bfloat16_are_torchs(shape: tuple[int, int]) -> None:
    """Each differs from the exact steps by a bfloat16 rounding a step, ours no more than torch's.

    Over many gradients: how a CPU sums the products decides which of the two rounds one better.
    """
    gradients = [torch.randn(shape) for _ in range(20)]
    adjustment = max(1, shape[0] / shape[1]) ** 0.5

    def mean_error(make: Callable[[list[Parameter]], torch.optim.Optimizer]) -> float:
        errors = []
        for gradient in gradients:
            param = Parameter(torch.zeros(shape))
            param.grad = gradient.clone()
            make([param]).step()
            truth = -adjustment * matrix_sign(gradient.double(), schedule="muon")
            errors.append(float((param.detach().double() - truth).norm() / truth.norm()))
        return sum(errors) / len(errors)

    ours = mean_error(lambda p: Muon(p, lr=1.0, schedule="muon", dtype=torch.bfloat16))
    torchs = mean_error(lambda p: torch.optim.Muon(p, lr=1.0))
    rounding = 5 * torch.finfo(torch.bfloat16).eps
    assert torchs < rounding
    assert ours < 1.2 * torchs


@pytest.mark.parametrize("damping", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_step_from_zero_is_the_damped_sign(damping: float, dtype: torch.dtype) -> None:
    gradient = torch.randn(8, 5, dtype=dtype)
    weight = Parameter(torch.zeros(8, 5, dtype=dtype))
    weight.grad = gradient.clone()
    Muon([weight], lr=0.7, momentum=0.0, damping=damping).step()
    truth = matrix_sign(gradient.double(), damping, backend="reference")
    torch.testing.assert_close(
        weight.detach().double(), -0.7 * (8 / 5) ** 0.5 * truth, rtol=1e-5, atol=1e-5
    )
    assert torch.equal(weight.grad, gradient)


def test_never_modifies_gradients() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for momentum in (0.0, 0.9):
            weight = Parameter(torch.zeros(4, 6, dtype=dtype))
            weight.grad = torch.randn(4, 6).to(dtype)
            before = weight.grad.clone()
            optimizer = Muon([weight], momentum=momentum, schedule="muon", dtype=torch.bfloat16)
            for _ in range(2):
                optimizer.step()
            assert torch.equal(weight.grad, before)


BATCHES: list[tuple[int, ...]] = [(1, 4, 6), (6, 4, 3, 2), (1, 4, 6), (1, 6, 4)]  # by batch_dims=1


def test_batching_same_shapes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batched = train(lambda params: Muon(params, lr=0.1, batch_dims=1), BATCHES)
    calls: list[torch.Size] = []

    def counted(matrix: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(matrix.shape)
        return matrix_sign(matrix, *args, **kwargs)

    monkeypatch.setattr("memsolve.optim.muon_update.matrix_sign", counted)
    apart = train(
        lambda params: Muon([{"params": [p]} for p in params], lr=0.1, batch_dims=1), BATCHES
    )
    assert len(calls) == 4 * len(BATCHES)
    calls.clear()
    train(lambda params: Muon(params, lr=0.1, batch_dims=1), BATCHES, steps=1)
    assert calls == [(8, 4, 6), (1, 6, 4)]
    for one, other in zip(batched, apart, strict=True):
        torch.testing.assert_close(one, other)


def test_groups_have_their_own_settings() -> None:
    params = [Parameter(torch.zeros(3, 3)) for _ in range(2)]
    for param in params:
        param.grad = torch.eye(3)
    groups: list[dict[str, Any]] = [{"params": params[:1], "lr": 0.5}, {"params": params[1:]}]
    optimizer = Muon(groups, lr=0.1)
    optimizer.step()
    torch.testing.assert_close(params[0].detach(), -0.5 * torch.eye(3))
    torch.testing.assert_close(params[1].detach(), -0.1 * torch.eye(3))


@pytest.mark.parametrize("schedule", [None, "polar-express", minimax(1e-3)])
def test_state_survives_a_checkpoint(schedule: Any) -> None:
    def make(params: list[Parameter]) -> Muon:
        return Muon(params, lr=0.1, schedule=schedule, dtype=torch.float32)

    def resumed(params: list[Parameter]) -> torch.optim.Optimizer:
        first = make(params)
        before = [p.detach().clone() for p in params]
        for param in params:
            param.grad = torch.ones_like(param) + torch.eye(*param.shape, dtype=param.dtype)
        first.step()
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = Muon(params, lr=9.0)
        second.load_state_dict(torch.load(file, weights_only=True))
        assert second.state_dict()["param_groups"] == first.state_dict()["param_groups"]
        for param, old in zip(params, before, strict=True):
            param.data.copy_(old)
        return second if use_second else first

    use_second = True
    after_loading = train(resumed)
    use_second = False
    for one, other in zip(after_loading, train(resumed), strict=True):
        assert torch.equal(one, other)


def test_closure_and_missing_gradients() -> None:
    with_gradient, without = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, 2))
    optimizer = Muon([with_gradient, without], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = with_gradient.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert torch.equal(without, torch.ones(2, 2))
    assert not torch.equal(with_gradient, torch.ones(2, 2))


def parameter(*shape: int) -> list[Parameter]:
    return [Parameter(torch.zeros(shape))]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Muon(parameter(3)), ShapeError, r"shape \(3,\)"),
        (lambda: Muon(parameter(2, 2), lr=-1.0), RangeError, "lr is -1.0"),
        (lambda: Muon(parameter(2, 2), lr=float("nan")), RangeError, "lr is nan"),
        (lambda: Muon(parameter(2, 2), lr=torch.ones(2)), ShapeError, r"shape \(2,\)"),
        (lambda: Muon(parameter(2, 2), momentum=1.0), RangeError, "momentum is 1.0"),
        (lambda: Muon(parameter(2, 2), weight_decay=-0.1), RangeError, "weight_decay"),
        (lambda: Muon(parameter(2, 2), adjust_lr_fn="no"), RangeError, "adjust_lr_fn"),  # type: ignore[arg-type]
        (lambda: Muon(parameter(2, 2), damping=-1.0), RangeError, "damping is -1.0"),
        (lambda: Muon(parameter(2, 2), schedule="moun"), RangeError, "'muon'"),
        (lambda: Muon(parameter(2, 2), dtype=torch.int32), DtypeError, "int32"),
        (lambda: Muon(parameter(2, 2), backend="x"), BackendError, "'x'"),  # type: ignore[arg-type]
        (lambda: Muon(parameter(2, 2), nesterov=None), RangeError, "nesterov is None"),  # type: ignore[arg-type]
        (lambda: Muon(parameter(2, 2), maximize=2), RangeError, "maximize is 2"),  # type: ignore[arg-type]
        (lambda: Muon(parameter(2, 2), foreach="x"), RangeError, "foreach is 'x'"),  # type: ignore[arg-type]
        (
            lambda: Muon([Parameter(torch.zeros(2, 2, dtype=torch.complex64))]),
            DtypeError,
            "complex64",
        ),
    ],
)
def test_unusable_settings_are_refused(
    call: Callable[[], object], error: type[InputError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_nan_in_a_gradient_is_an_error_and_leaves_no_trace() -> None:
    first, second = parameter(2, 2) + parameter(3, 2)
    first.grad, second.grad = torch.eye(2), torch.full((3, 2), torch.nan)
    optimizer = Muon([first, second])
    with pytest.raises(NonFiniteError, match="NaN"):
        optimizer.step()
    assert torch.equal(first, torch.zeros(2, 2))
    assert not optimizer.state
    second.grad = torch.ones(3, 2)
    optimizer.step()
    assert second.isfinite().all()


def test_empty_parameters_are_left_alone() -> None:
    (param,) = parameter(0, 3)
    param.grad = torch.zeros(0, 3)
    Muon([param]).step()


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_scale_of_a_gradient_does_not_matter_in_float16(scale: float) -> None:
    (param,) = parameter(4, 4)
    param.grad = scale * torch.eye(4)
    Muon([param], lr=1.0, dtype=torch.float16).step()
    torch.testing.assert_close(param.detach(), -torch.eye(4), rtol=4e-3, atol=0)


@pytest.mark.parametrize(
    ("alpha", "dim", "dtype"),
    [
        *((alpha, 96, torch.float64) for alpha in (1.2, 1.5, 2.0)),
        *((alpha, 192, torch.float32) for alpha in (1.2, 1.5)),
        (2.0, 384, torch.float32),
    ],
)
def test_default_schedule_stores_what_the_exact_polar_factor_stores(
    alpha: float, dim: int, dtype: torch.dtype
) -> None:
    memory = AssociativeMemory(32 * dim, dim, alpha, seed=0)
    gradient = memory.gradient_at_zero(memory.population())

    def stored(**settings: Any) -> int:
        weight = Parameter(torch.zeros(dim, dim, dtype=dtype))
        weight.grad = gradient.to(dtype)
        Muon([weight], lr=1.0, momentum=0.0, **settings).step()
        return memory.recall(weight.detach().double()).count

    exact = stored(backend="reference")
    assert stored() >= 0.97 * exact
    assert stored(backend="torch") >= 0.97 * exact
    if alpha == 2.0:
        assert stored(schedule="muon") < 0.5 * exact


def test_relative_damping_follows_the_largest_singular_value_of_each_matrix_and_step() -> None:
    small = torch.diag(torch.tensor([5.0, 1.0, 0.1], dtype=torch.float64))
    large = torch.diag(torch.tensor([50.0, 20.0, 1.0], dtype=torch.float64))
    params = [Parameter(torch.zeros(3, 3, dtype=torch.float64)) for _ in range(2)]
    optimizer = Muon(params, lr=1.0, momentum=0.0, relative_damping=0.1)
    for gradients in ((small, large), (large, small)):
        before = [param.detach().clone() for param in params]
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = gradient
        optimizer.step()
        for param, start, gradient in zip(params, before, gradients, strict=True):
            expected = start - matrix_sign(gradient, 0.1 * float(gradient.max()))
            torch.testing.assert_close(param.detach(), expected)


def test_gradients_are_rounded_at_every_step_and_left_alone() -> None:
    exact = torch.diag(torch.tensor([5.0, 1.0, 1.0, 1 + 2.0**-12], dtype=torch.float64))
    exact[0, 3] = 2.0**-12
    assert not torch.equal(exact.bfloat16().double(), exact)
    weight = Parameter(torch.zeros(4, 4, dtype=torch.float64))
    optimizer = Muon([weight], lr=1.0, momentum=0.0, damping=0.3, gradient_dtype=torch.bfloat16)
    for gradient in (exact, exact.T):
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        optimizer.step()
        step = matrix_sign(gradient.bfloat16().double(), 0.3)
        torch.testing.assert_close(weight.detach(), before - step)
        assert torch.equal(weight.grad, gradient)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relative_damping": -1.0}, "relative_damping is -1.0; expected"),
        ({"relative_damping": 0.1, "damping": 0.1}, "expected one of them"),
        ({"gradient_dtype": torch.int64}, "gradient_dtype is torch.int64; expected a floating"),
    ],
)
def test_invalid_inaccuracies_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([Parameter(torch.zeros(2, 2))], **settings)


@pytest.mark.parametrize(
    "group",
    [
        {"params": parameter(3)},
        {"params": parameter(2, 2), "momentum": 2.0},
        {"params": parameter(2, 2), "foreach": "x"},
    ],
)
def test_a_group_that_is_refused_is_not_added(group: dict[str, Any]) -> None:
    optimizer = Muon(parameter(2, 2))
    with pytest.raises(InputError):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


def test_takes_over_the_state_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "torch.optim._muon._zeropower_via_newtonschulz",
        lambda grad, *_: matrix_sign(grad, schedule="muon"),
    )
    torchs, ours = (Parameter(torch.zeros(6, 9, dtype=torch.float64)) for _ in range(2))
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.8}
    first = torch.optim.Muon([torchs], **settings)
    torchs.grad = torch.randn(6, 9, dtype=torch.float64)
    first.step()
    ours.data.copy_(torchs)
    second = Muon([ours], schedule="muon")
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert {name: second.param_groups[0][name] for name in settings} == settings
    assert second.param_groups[0].keys() == Muon([ours]).param_groups[0].keys()
    for gradient in torch.randn(2, 6, 9, dtype=torch.float64):
        torchs.grad, ours.grad = gradient.clone(), gradient.clone()
        first.step()
        second.step()
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


def test_a_state_that_lacks_a_hyperparameter_leaves_it_as_it_is() -> None:
    params = parameter(3, 3) + parameter(3, 3)
    groups: list[dict[str, Any]] = [{"params": params[:1], "relative_damping": 0.5}]
    optimizer = Muon([*groups, {"params": params[1:]}], lr=0.1)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["relative_damping"], group["gradient_dtype"]
    optimizer.load_state_dict(state)
    assert [group["relative_damping"] for group in optimizer.param_groups] == [0.5, 0.0]
    for param in params:
        param.grad = torch.eye(3)
    optimizer.step()
    assert torch.equal(params[1].detach(), -0.1 * torch.eye(3))


def test_a_state_that_cannot_be_used_changes_nothing() -> None:
    params = parameter(3, 3)
    state = torch.optim.Muon(params, momentum=1.5).state_dict()
    optimizer = Muon(params)
    before = optimizer.state_dict()
    with pytest.raises(RangeError, match=r"momentum is 1\.5"):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_learning_rate_may_be_a_tensor_and_follows_a_scheduler(shape: tuple[int, ...]) -> None:
    def scheduled(lr: float | Tensor) -> list[Tensor]:
        def make(params: list[Parameter]) -> Muon:
            optimizer = Muon(params, lr=lr, weight_decay=0.3)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            optimizer.register_step_post_hook(lambda *_: schedule.step())
            return optimizer

        return train(make)

    lr = torch.full(shape, 0.1, dtype=torch.float64)
    for one, other in zip(scheduled(lr), scheduled(0.1), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lr, torch.full_like(lr, 0.1 / 2**4))


def test_only_params_and_lr_go_by_position_as_torch_orders_the_rest_differently() -> None:
    assert Muon(parameter(2, 2), 0.5).defaults["lr"] == 0.5
    with pytest.raises(TypeError, match="positional"):
        Muon(parameter(2, 2), 0.5, 0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_maximize_takes_the_steps_on_minus_the_gradients(momentum: float) -> None:
    gradients = torch.randn(3, 4, 6)

    def steps(sign: float, maximize: bool) -> Tensor:
        (param,) = parameter(4, 6)
        optimizer = Muon([param], lr=0.1, momentum=momentum, weight_decay=0.3, maximize=maximize)
        for gradient in gradients:
            param.grad = sign * gradient
            optimizer.step()
            assert torch.equal(param.grad, sign * gradient)
        return param.detach()

    assert torch.equal(steps(1.0, True), steps(-1.0, False))


COMPILED = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own


@COMPILED
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_compiled_step_does_not_mind_the_default_device(device: str) -> None:
    gradient = torch.randn(7, 11)

    def stepped(compiled: bool) -> Tensor:
        (param,) = parameter(7, 11)
        param.grad = gradient
        optimizer = Muon([param], lr=0.1, backend="torch")
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        with torch.device(device):
            step()
        return param.detach()

    assert torch.equal(stepped(compiled=True), stepped(compiled=False))


@COMPILED
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lr": torch.tensor(0.1, dtype=torch.float64)},
        {"schedule": "muon", "foreach": False},
        {"momentum": 0.0, "gradient_dtype": torch.bfloat16},
        {"nesterov": False, "maximize": True, "damping": 0.1},
        {"relative_damping": 0.1, "damping_norm": "frobenius", "momentum_dtype": torch.float32},
    ],
)
def test_a_step_compiles_without_a_break_to_the_same_numbers(settings: dict[str, Any]) -> None:
    def make(params: list[Parameter], compiled: bool) -> Muon:
        optimizer = Muon(params, **{"lr": 0.1, "weight_decay": 0.1} | settings)
        if compiled:
            step = torch.compile(optimizer.step, backend="aot_eager", fullgraph=True)
            optimizer.step = step  # type: ignore[assignment, method-assign]
        return optimizer

    torch.compiler.reset()
    shapes: list[tuple[int, ...]] = [(4, 6), (2, 4, 6), (6, 4)]
    ours = train(lambda params: make(params, compiled=True), shapes)
    for one, other in zip(ours, train(lambda p: make(p, compiled=False), shapes), strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_on_a_gpu_reads_nothing_back() -> None:
    with FakeTensorMode():
        (param,) = params = [Parameter(torch.empty(4, 6, device="cuda"))]
        param.grad = torch.empty_like(param)
        optimizer = Muon(params, weight_decay=0.1)
        optimizer.param_groups[0]["lr"] = torch.tensor(0.1, device="cuda")
        optimizer.step()
        assert optimizer.state[param]["momentum_buffer"].is_cuda


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_one_by_one_the_steps_are_those_of_a_batch(
    momentum: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Size] = []

    def counted(matrix: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(matrix.shape)
        return matrix_sign(matrix, *args, **kwargs)

    monkeypatch.setattr("memsolve.optim.muon_update.matrix_sign", counted)

    def steps(foreach: bool | None) -> list[Tensor]:
        calls.clear()
        settings: dict[str, Any] = {"momentum": momentum, "foreach": foreach, "batch_dims": 1}
        return train(lambda params: Muon(params, lr=0.1, **settings), BATCHES, steps=1)

    apart = steps(foreach=False)
    assert calls == [(1, 4, 6), (6, 4, 6), (1, 4, 6), (1, 6, 4)]
    for foreach in (None, True):
        for one, other in zip(steps(foreach), apart, strict=True):
            torch.testing.assert_close(one, other)
        assert calls == [(8, 4, 6), (1, 6, 4)]


@pytest.mark.parametrize("backend", [None, "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("momentum", [0.0, 0.95])
def test_no_default_amplifies_a_gradient_of_low_rank(
    momentum: float, dtype: torch.dtype, backend: Any
) -> None:
    """With momentum too, whose mean is rounded at each of the first steps."""
    param = Parameter(torch.zeros(128, 128, dtype=dtype))
    param.grad = torch.outer(*torch.randn(2, 128)).to(dtype)
    optimizer = Muon([param], lr=1.0, momentum=momentum, backend=backend)
    for _ in range(5 if momentum else 1):
        param.data.zero_()
        optimizer.step()
        assert 0.95 < param.detach().double().norm() < 1.3
