"""Muon over ranks: a fault of one rank fails on all, and what cannot be shared is refused."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from memsolve_kernels.errors import DtypeError, InputError, NonFiniteError, RangeError
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor
from torch.nn import Parameter

from memsolve import AssociativeMemory
from memsolve.objective import Objective
from memsolve.optim import Kaon, Muon, Newton, TheoremMuon, WhitenedMuon
from memsolve.optim.muon_layout import local_part
from tests.memsolve.rank_cases import places, small_model
from tests.ranks import run_ranks

Fault = Callable[[Muon, pytest.MonkeyPatch], object]


def _closure_raises(optimizer: Muon, _: pytest.MonkeyPatch) -> None:
    def closure() -> float:
        raise KeyError("data")

    step: Any = partial(optimizer.step, closure)
    optimizer.step = step  # type: ignore[method-assign]


def _sign_diverges(_: Muon, patch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> Tensor:
        raise NonFiniteError("diverged")

    patch.setattr("memsolve.optim.muon_update.matrix_sign", diverge)


FAULTS: dict[str, tuple[int, Fault, type[Exception], str]] = {
    "NaN": (
        3,
        lambda optimizer, _: local_part(last(optimizer).grad).fill_(torch.nan),
        NonFiniteError,
        "the gradient of parameter 'last' contains NaN",
    ),
    "setting": (
        1,
        lambda optimizer, _: optimizer.param_groups[0].update(momentum=2.0),
        RangeError,
        "momentum is 2.0",
    ),
    "no gradient": (
        2,
        lambda optimizer, _: setattr(last(optimizer), "grad", None),
        InputError,
        "rank 0 has parameter last .* with a gradient.*, and rank 2 has .* with no gradient",
    ),
    "other setting": (
        1,
        lambda optimizer, _: optimizer.param_groups[0].update(lr=0.2),
        InputError,
        "rank 0 has lr=0.1 in group 0, and rank 1 has lr=0.2",
    ),
    "closure": (0, _closure_raises, RuntimeError, "KeyError: 'data'"),
    "sign": (1, _sign_diverges, NonFiniteError, "diverged"),
}


def last(optimizer: Muon) -> Any:
    return optimizer.param_groups[0]["params"][-1]


def test_an_error_of_one_rank_is_an_error_of_all_and_changes_nothing() -> None:
    run_ranks(_assert_all_raise, 4)


def _assert_all_raise() -> None:
    _assert_replicas_are_compared()
    _assert_replicas_of_some_ranks_may_have_gradients_of_their_own()
    for place, group in ((torch.clone, dist.group.WORLD), (places()["HSDP"], None)):
        params = [(name, Parameter(place(torch.ones(3, 5)))) for name in ("a", "b", "c", "last")]
        optimizer = Muon(params, lr=0.1, process_group=group)
        for started in (False, True):
            for name in FAULTS:
                for _, param in params:
                    param.grad = place(torch.eye(3, 5))
                before = _everything(optimizer)
                _assert_raises(optimizer, name)
                assert all(map(torch.equal, _everything(optimizer), before)), name
                assert len(before) == (8 if started else 4)
            for _, param in params:
                param.grad = place(torch.eye(3, 5))
            optimizer.step()


REPLICAS: dict[str, tuple[Callable[[list[Parameter]], Muon], str]] = {
    "lr in a tensor": (
        lambda params: _muon(params, lr=torch.tensor(0.25)),
        r"rank 0 has lr=0.5 in group 0, and rank 2 has lr=0.25 in group 0",
    ),
    "rows of a gradient": (
        lambda params: _muon(params, of_first=lambda gradient: gradient.flip(0)),
        r"rank 0 has parameter 0 .* of digest \w+, and rank 2 has parameter 0 .* of digest \w+;",
    ),
    "columns of a gradient": (
        lambda params: _muon(params, of_first=lambda gradient: gradient.flip(1)),
        r"rank 0 has parameter 0 .* of digest \w+, and rank 2 has parameter 0 .* of digest \w+;",
    ),
    "order": (
        lambda params: _muon(params[::-1]),
        r"rank 0 has parameter 0 .* of digest \w+, and rank 2 has parameter 0 .* of digest \w+;",
    ),
    "number of parameters": (
        lambda params: _muon(params[:1]),
        "rank 0 has num_params=2 in group 0, and rank 2 has num_params=1 in group 0",
    ),
    "number of groups": (
        lambda params: _muon([{"params": [param], "lr": 0.25} for param in params]),
        "rank 0 has num_groups=1, and rank 2 has num_groups=2",
    ),
}
"""What one of the ranks that hold the same parameters does differently, and the error."""


def _muon(params: Any, of_first: Callable[[Tensor], Tensor] = torch.clone, **settings: Any) -> Muon:
    """Muon over replicas, with the gradient of the first parameter changed by a function."""
    group = {"lr": torch.tensor(0.5), "process_group": dist.group.WORLD}
    optimizer = Muon(params, **group | settings)
    first = optimizer.param_groups[0]["params"][0]
    first.grad = of_first(first.grad)
    return optimizer


def _assert_replicas_are_compared() -> None:
    for name, (differing, message) in REPLICAS.items():
        params = [Parameter(torch.ones(3, 5)) for _ in range(2)]
        for index, param in enumerate(params):
            param.grad = torch.arange(15.0).view(3, 5) + index
        optimizer = differing(params) if dist.get_rank() == 2 else _muon(params)
        with pytest.raises(InputError, match=message):
            optimizer.step()
        assert all(torch.equal(param, torch.ones(3, 5)) for param in params), name
        assert not optimizer.state


def _assert_replicas_of_some_ranks_may_have_gradients_of_their_own() -> None:
    grid, place = init_device_mesh("cpu", (2, 2)), places()["FSDP"]
    params = [Parameter(torch.ones(3, 5)), Parameter(place(torch.ones(3, 5)))]
    params[0].grad = torch.eye(3, 5) * (1 + grid.get_local_rank(0))
    params[1].grad = place(torch.eye(3, 5))
    Muon(params, process_group=grid.get_group(1)).step()


def _assert_raises(optimizer: Muon, name: str) -> None:
    """A step fails on all ranks by a fault of one, which is then removed."""
    rank, fault, error, message = FAULTS[name]
    settings = dict(optimizer.param_groups[0])
    with pytest.MonkeyPatch.context() as patch:
        if dist.get_rank() == rank:
            fault(optimizer, patch)
            error = KeyError if name == "closure" else error
            message = "data" if name == "closure" else message
        with pytest.raises(error, match=message) as raised:
            optimizer.step()
    of_another = str(raised.value).startswith(f"rank {rank} raised: ")
    assert of_another == (rank != dist.get_rank() and not message.startswith("rank"))
    vars(optimizer).pop("step", None)
    optimizer.param_groups[0].update(settings)


def _everything(optimizer: Muon) -> list[Tensor]:
    buffers = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [*optimizer.param_groups[0]["params"], *buffers]
    return [local_part(each.detach()).clone() for each in tensors]


def test_what_cannot_be_shared_is_refused_by_name() -> None:
    run_ranks(_assert_refusals, 4)


def _assert_refusals() -> None:
    line = init_device_mesh("cpu", (4,))
    sharded = Parameter(places()["FSDP"](torch.ones(4, 4)))

    def refused(param: Tensor, message: str, make: Callable[..., object] = Muon) -> None:
        with pytest.raises(DtypeError, match=f"parameter 'x' {message}"):
            make([("x", Parameter(param))])

    for whole in (False, True):
        model = FullyShardedDataParallel(
            small_model(), use_orig_params=whole, device_id=torch.device("cpu")
        )
        with pytest.raises(DtypeError, match=r"parameter '.*' is a flat shard of .*\(FSDP1\)"):
            Muon(model.named_parameters())
    refused(DTensor.from_local(torch.ones(4, 4), line, [Partial()]), "has placements .*Partial")
    rows = torch.ones(1 if dist.get_rank() else 3, 4)
    uneven = DTensor.from_local(rows, line, [Shard(0)], shape=torch.Size((6, 4)), stride=(4, 1))
    refused(uneven, r"has a part of shape .* on this rank; expected")
    if dist.get_rank() > 1:
        pair = DeviceMesh("cpu", [0, 1], _init_backend=False)
        refused(distribute_tensor(torch.ones(2, 2), pair, [Shard(0)]), "lies on .*this rank")
    memory = AssociativeMemory(8, 4, 1.5, seed=0)
    objective = Objective(memory, memory.population())
    for each in (Newton, WhitenedMuon, TheoremMuon):
        refused(sharded, "is a DTensor; this optimizer takes", partial(each, objective=objective))
    refused(sharded, "is a DTensor; this optimizer takes", Kaon)
    with pytest.raises(DtypeError, match="process_group is 'gloo'; expected"):
        Muon([sharded], process_group="gloo")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="process_group was given; TheoremMuon"):
        TheoremMuon([sharded], objective, process_group=dist.group.WORLD)
    optimizer = Muon([("x", sharded)])
    optimizer.state[sharded]["momentum_buffer"] = torch.zeros(4, 4)
    sharded.grad = sharded.detach().clone()
    with pytest.raises(DtypeError, match="its state on every rank; expected the same"):
        optimizer.step()
