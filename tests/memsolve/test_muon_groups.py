"""Groups of Muon for AdamW: the steps of torch's, settings of their own, states of others."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from memsolve_kernels.errors import DtypeError, InputError, NonFiniteError, RangeError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Parameter

from memsolve.optim import Muon, TheoremMuon, split_params
from tests.memsolve.test_muon import COMPILED

SHAPES = [(4, 6), (6, 4), (5,), (), (3, 1, 1), (7, 3)]
MATRICES = 2
"""Of the shapes, the first ones are for Muon."""

Params = list[Parameter]


def random_params(dtype: torch.dtype = torch.float32) -> Params:
    generator = torch.Generator().manual_seed(0)
    return [Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def set_gradients(params: Params, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


def both(params: Params, settings: dict[str, Any] | None = None, **arguments: Any) -> Muon:
    others = {"params": params[MATRICES:], "use_muon": False, **(settings or {})}
    return Muon([{"params": params[:MATRICES]}, others], **{"lr": 0.1, **arguments})


def values(params: Params) -> list[Tensor]:
    return [param.detach().clone() for param in params]


def equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(map(torch.equal, some, others))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {}),
        ({"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3}, {"foreach": False}),
        ({"lr": torch.tensor(0.01)}, {"maximize": True}),
        ({"maximize": True, "foreach": True}, {"weight_decay": 0.1}),
    ],
)
def test_each_group_takes_the_steps_of_its_optimizer_to_the_bit(
    settings: dict[str, Any], arguments: dict[str, Any], dtype: torch.dtype
) -> None:
    ours, theirs = random_params(dtype), random_params(dtype)
    optimizer = both(ours, settings, **arguments)
    common = {name: arguments[name] for name in ("maximize", "foreach") if name in arguments}
    defaults: dict[str, Any] = {"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-10, "weight_decay": 0.0}
    adamw = torch.optim.AdamW(theirs[MATRICES:], **defaults | common | settings)
    muon = Muon(theirs[:MATRICES], **{"lr": 0.1} | arguments)
    for step in range(3):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizer.step()
        adamw.step()
        muon.step()
        assert equal(ours, theirs)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"betas": (0.9, 0.95)}, "use_muon=True has betas; expected some of lr, momentum"),
        ({"ns_steps": 5}, "has ns_steps"),
        ({"use_muon": False, "momentum": 0.9}, "use_muon=False has momentum; expected some of lr"),
        ({"use_muon": False, "heads": 2, "damping": 0.1}, "has damping, heads; expected"),
        ({"use_muon": "no"}, "use_muon is 'no'; expected True or False"),
        ({"use_muon": False, "betas": (0.9, 1.0)}, r"one of betas is 1.0; expected a number in"),
        ({"use_muon": False, "betas": 0.9}, "betas is 0.9; expected two numbers"),
        ({"use_muon": False, "eps": -1.0}, "eps is -1.0"),
        ({"use_muon": False, "lr": -1.0}, "lr is -1.0"),
        ({"use_muon": False, "capturable": 1}, "capturable is 1; expected one of"),
    ],
)
def test_a_group_with_other_settings_is_refused_and_not_added(
    group: dict[str, Any], message: str
) -> None:
    optimizer = both(random_params())
    with pytest.raises(RangeError, match=message):
        optimizer.add_param_group({"params": [Parameter(torch.zeros(2, 2))], **group})
    assert len(optimizer.param_groups) == 2


def test_what_schedulers_and_loggers_write_into_a_group_is_no_setting() -> None:
    optimizer = both(random_params(), {"name": "head", "initial_lr": 0.5}, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    set_gradients(random_params(), 0)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.25]


def test_a_parameter_that_neither_takes_is_refused_by_name() -> None:
    vector, complex_vector = Parameter(torch.zeros(3)), torch.zeros(3, dtype=torch.complex64)
    with pytest.raises(InputError, match=r"'bias' has shape \(3,\).*group with use_muon=False"):
        Muon([("bias", vector)])
    with pytest.raises(DtypeError, match="'phase' has dtype"):
        Muon([{"params": [("phase", Parameter(complex_vector))], "use_muon": False}])


@pytest.mark.parametrize("started", [False, True])
def test_a_fault_in_one_group_leaves_both_as_they_were(started: bool) -> None:
    params = random_params()
    optimizer = both(params)
    if started:
        set_gradients(params, 0)
        optimizer.step()
    for faulty in (0, -1):
        set_gradients(params, 1)
        params[faulty].grad = torch.full(SHAPES[faulty], torch.nan)
        before, state = values(params), copy.deepcopy(optimizer.state_dict())
        with pytest.raises(NonFiniteError, match="contains NaN"):
            optimizer.step()
        assert equal(values(params), before)
        assert str(optimizer.state_dict()) == str(state)


def test_a_group_cannot_change_its_optimizer() -> None:
    optimizer = both(random_params())
    for group in optimizer.param_groups:
        group["use_muon"] = not group["use_muon"]
        with pytest.raises(RangeError, match="use_muon of a group has become"):
            optimizer.step()
        group["use_muon"] = not group["use_muon"]
    state = Muon([{"params": random_params()[:2]}, {"params": random_params()[5:]}]).state_dict()
    optimizer = both(random_params()[:2] + random_params()[5:])
    with pytest.raises(RangeError, match="a group of the state has use_muon=True"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("use_muon", [True, False])
def test_the_state_of_adamw_is_refused(use_muon: bool) -> None:
    params = [Parameter(torch.ones(2, 3))]
    state = torch.optim.AdamW(params).state_dict()
    with pytest.raises(RangeError, match=r"of an Adam: .*; expected .* Start Muon"):
        Muon([{"params": params, "use_muon": use_muon}]).load_state_dict(state)


def by_state(params: Params, optimizer: Muon) -> tuple[Params, Muon]:
    other = [Parameter(param.detach().clone()) for param in params]
    loaded = both(other, {"lr": 9.0}, lr=9.0)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return other, loaded


def by_copy(params: Params, optimizer: Muon) -> tuple[Params, Muon]:
    result: tuple[Params, Muon] = copy.deepcopy((params, optimizer))
    return result


def by_pickle(params: Params, optimizer: Muon) -> tuple[Params, Muon]:
    result: tuple[Params, Muon] = pickle.loads(pickle.dumps((params, optimizer)))
    return result


@pytest.mark.parametrize("duplicate", [by_state, by_copy, by_pickle])
def test_a_copy_goes_on_to_the_bit(duplicate: Any) -> None:
    params = random_params()
    optimizer = both(params, {"weight_decay": 0.1})
    for step in range(2):
        set_gradients(params, step)
        optimizer.step()
    others, other = duplicate(params, optimizer)
    for each, own in ((params, optimizer), (others, other)):
        set_gradients(each, 2)
        own.step()
    assert equal(params, others)
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_a_state_of_the_authors_optimizer_can_be_loaded() -> None:
    params, truth = random_params(), random_params()
    optimizer, reference = both(params), both(truth, lr=0.02)
    set_gradients(truth, 0)
    reference.step()
    for param, other in zip(params, truth, strict=True):
        param.data.copy_(other)
    state = copy.deepcopy(reference.state_dict())
    names = ("params", "use_muon", "lr", "weight_decay")
    muon, adamw = (
        {name: group[name] for name in (*names, *more)}
        for group, more in zip(
            state["param_groups"], [("momentum",), ("betas", "eps")], strict=True
        )
    )
    state["param_groups"] = [muon, adamw]
    for param_state in state["state"].values():
        if "step" in param_state:
            param_state["step"] = int(param_state["step"])
    optimizer.load_state_dict(state)
    for each, own in ((params, optimizer), (truth, reference)):
        set_gradients(each, 1)
        own.step()
    assert equal(params, truth)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(10, 4), Parameter(torch.zeros(5, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.convolution, self.norm = nn.Conv1d(4, 4, 3), nn.LayerNorm(4)
        self.scale, self.frozen = Parameter(torch.ones(4, 1, 1)), nn.Linear(4, 4)
        self.frozen.requires_grad_(requires_grad=False)
        self.tied, self.head = nn.Linear(4, 10, bias=False), nn.Linear(4, 7)
        self.tied.weight = self.embedding.weight


def test_parameters_are_split_into_hidden_matrices_and_others() -> None:
    model = Net()
    hidden, others = split_params(model, exclude=[model.head, model.positions])
    assert hidden["param_names"] == [
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "convolution.weight",
    ]
    assert set(others["param_names"]) == {
        *("embedding.weight", "positions", "scale", "head.weight", "head.bias"),
        *("attention.in_proj_bias", "attention.out_proj.bias", "convolution.bias"),
        *("norm.weight", "norm.bias"),
    }
    optimizer = Muon([hidden | {"lr": 0.02}, others | {"lr": 3e-3}], weight_decay=0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_a_group_may_be_empty() -> None:
    model = nn.Linear(3, 3, bias=False)
    optimizer = Muon(list(split_params(model)))
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    assert set(optimizer.state) == {model.weight}


def test_the_damping_of_the_theorem_is_for_muon_only() -> None:
    group = {"params": [Parameter(torch.zeros(3, 3))], "use_muon": False}
    with pytest.raises(RangeError, match="TheoremMuon"):
        TheoremMuon([group], objective=None)  # type: ignore[arg-type]


@COMPILED
def test_a_compiled_step_takes_both_kinds() -> None:
    settings = {"lr": torch.tensor(0.01), "weight_decay": 0.1}

    def stepped(compiled: bool) -> list[Tensor]:
        params = random_params()
        optimizer = both(params, settings)
        step: Any = optimizer.step
        if compiled:
            torch.compiler.reset()
            step = torch.compile(step, backend="aot_eager", fullgraph=True)
        for number in range(2):
            set_gradients(params, number)
            step()
        return values(params)

    for one, other in zip(stepped(True), stepped(False), strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_on_a_gpu_reads_nothing_back() -> None:
    with FakeTensorMode():
        params = [Parameter(torch.empty(shape, device="cuda")) for shape in SHAPES]
        for param in params:
            param.grad = torch.empty_like(param)
        settings = {"lr": torch.tensor(0.1, device="cuda"), "capturable": True}
        optimizer = both(params, settings, weight_decay=0.1)
        optimizer.step()
        assert optimizer.state[params[-1]]["step"].is_cuda
