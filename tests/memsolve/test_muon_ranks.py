"""Muon over ranks: the bits of one process, whoever holds which part of a parameter."""

import copy
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import DtypeError, InputError, NonFiniteError, RangeError
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel

from memsolve import AssociativeMemory
from memsolve.objective import Objective
from memsolve.optim import Kaon, Muon, Newton, TheoremMuon, WhitenedMuon
from memsolve.optim.muon_layout import local_part
from tests.ranks import run_ranks

Place = Callable[[Tensor], Tensor]
Shapes = Sequence[tuple[int, ...]]

SHAPES = [(5, 7), (5, 7), (5, 7), (3, 4), (1, 6), (6, 1), (4, 3, 2, 2), (8, 16)]
SETTINGS: list[dict[str, Any]] = [
    {"momentum": 0.0, "damping": 0.3, "adjust_lr_fn": "match_rms_adamw"},
    {"nesterov": False, "weight_decay": 0.3, "lr": torch.tensor(0.1)},
    {"foreach": False, "maximize": True, "gradient_dtype": torch.bfloat16},
    {"relative_damping": 0.1},
    {"backend": "torch", "schedule": "muon", "damping": 0.1},
]
STACKS: Shapes = [(4, 6, 5), (4, 6, 5), (3, 2, 5), (1, 4, 3), (2, 2, 3, 2)]


def places() -> dict[str, Place]:
    """Ways to lay a tensor over the ranks, by name."""
    size = dist.get_world_size()
    line, grid = init_device_mesh("cpu", (size,)), init_device_mesh("cpu", (2, size // 2))
    layouts = {
        "FSDP": (line, [Shard(0)]),
        "TP": (line, [Shard(1)]),
        "replicated": (line, [Replicate()]),
        "HSDP": (grid, [Replicate(), Shard(0)]),
        "FSDP and TP": (grid, [Shard(0), Shard(1)]),
        "two shards of rows": (grid, [Shard(0), Shard(0)]),
    }

    def place(mesh: Any, placements: Any) -> Place:
        return lambda tensor: distribute_tensor(
            tensor.clone(), mesh, placements, src_data_rank=None
        )

    return {name: place(*layout) for name, layout in layouts.items()}


def complete(tensor: Tensor) -> Tensor:
    """All of a tensor, on every rank."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    whole: Tensor = tensor.full_tensor()
    return whole.detach()


def steps(
    shapes: Shapes, dtype: torch.dtype, place: Place = torch.clone, count: int = 2, **settings: Any
) -> list[Tensor]:
    """Parameters after some steps on random gradients, complete."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> list[Tensor]:
        numbers = (torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)
        return [place(each) for each in numbers]

    params = [Parameter(each) for each in draw()]
    optimizer = Muon(params, **{"lr": 0.1} | settings)
    for _ in range(count):
        for param, gradient in zip(params, draw(), strict=True):
            param.grad = gradient
        optimizer.step()
    return [complete(param) for param in params]


@pytest.mark.parametrize("size", [2, 4])
def test_the_steps_have_the_bits_of_one_process(size: int) -> None:
    run_ranks(_assert_bits_of_one_process, size)


def _assert_bits_of_one_process() -> None:
    ways = list(places().items())
    for dtype in (torch.float32, torch.float64):
        _assert_same_bits(SHAPES, dtype, ways)
    for case, settings in enumerate(SETTINGS):
        dtype = (torch.float32, torch.float64)[case % 2]
        _assert_same_bits(SHAPES, dtype, [ways[case % 4]], **settings)
    _assert_same_bits(STACKS, torch.float64, ways, batch_dims=1)
    random = Random(0)
    for case in range(6):
        dtype = (torch.float32, torch.float64)[case % 2]
        shapes = [tuple(random.choices(range(1, 10), k=2)) for _ in range(random.randint(1, 5))]
        heads, momentum = random.choice([1, 3]), random.choice([0.0, 0.9])
        shapes = [(heads * rows, columns) for rows, columns in shapes]
        _assert_same_bits(shapes, dtype, [random.choice(ways)], heads=heads, momentum=momentum)


def _assert_same_bits(
    shapes: Shapes, dtype: torch.dtype, ways: Sequence[tuple[str, Place]], **settings: Any
) -> None:
    """Steps are those of one process, under DDP and as these ways lay parameters over ranks."""
    truth = steps(shapes, dtype, **settings)
    ddp = steps(shapes, dtype, process_group=dist.group.WORLD, **settings)
    assert all(map(torch.equal, ddp, truth)), ("DDP", shapes, dtype, settings)
    for name, place in ways:
        ours = steps(shapes, dtype, place, **settings)
        assert all(map(torch.equal, ours, truth)), (name, shapes, dtype, settings)


def test_models_of_torchs_parallelisms_step_as_one_process_on_their_gradients() -> None:
    run_ranks(_assert_models_step_alike, 4)


def _assert_models_step_alike() -> None:
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    models: dict[str, Any] = {
        "DDP": DistributedDataParallel(_model()),
        "FSDP2": fully_shard(_model()),
        "HSDP": fully_shard(_model(), mesh=grid),
        "TP": parallelize_module(_model(), grid["model"], plan),
        "FSDP2 and TP": fully_shard(
            parallelize_module(_model(), grid["model"], plan), mesh=grid["data"]
        ),
    }
    for name, model in models.items():
        group = dist.group.WORLD if name == "DDP" else None
        ours = Muon(model.named_parameters(), lr=0.1, weight_decay=0.1, process_group=group)
        params, copies = list(model.parameters()), list(_model().parameters())
        truth = Muon(copies, lr=0.1, weight_decay=0.1)
        for _ in range(2):
            model(torch.ones(4, 6) * (dist.get_rank() + 1)).square().sum().backward()
            for param, other in zip(params, copies, strict=True):
                assert param.grad is not None
                other.grad = complete(param.grad).clone()
            ours.step()
            truth.step()
            ours.zero_grad()
            assert all(map(torch.equal, map(complete, params), copies)), name
        assert any(isinstance(param, DTensor) for param in params) == (name != "DDP")


def _model() -> nn.Module:
    torch.manual_seed(0)
    shapes = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), nn.Linear(3, 1)]
    for layer in shapes:
        if isinstance(layer, nn.Linear):
            layer.register_parameter("bias", None)
    return nn.Sequential(*shapes)


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


def test_plain_sharded_frozen_and_unreduced_parameters_mix() -> None:
    run_ranks(_assert_mixtures, 4)


def _assert_mixtures() -> None:
    line, grid = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2))
    layouts: list[Any] = [
        None,
        (line, [Shard(0)]),
        (grid, [Shard(1), Replicate()]),
        (grid, [Replicate(), Shard(1)]),
        (line, [Replicate()]),
    ]

    def place(tensor: Tensor, layout: Any) -> Tensor:
        return distribute_tensor(tensor, *layout, src_data_rank=None) if layout else tensor

    start = [torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) for _ in layouts]
    ours = [Parameter(place(each, layout)) for each, layout in zip(start, layouts, strict=True)]
    truth = [Parameter(each.clone()) for each in start]
    frozen = [Parameter(torch.ones(2, 3)), Parameter(place(torch.ones(2, 3), layouts[1]))]
    optimizer = Muon([*ours, *frozen], lr=0.1, process_group=dist.group.WORLD)
    reference = Muon(truth, lr=0.1)
    for step in range(2):
        for param, other, layout in zip(ours, truth, layouts, strict=True):
            gradient = torch.randn(5, 7, generator=torch.Generator().manual_seed(step))
            param.grad, other.grad = place(gradient, layout), gradient.clone()
        part = gradient if dist.get_rank() == step else torch.zeros(5, 7)
        ours[-1].grad = DTensor.from_local(part, line, [Partial()])
        optimizer.step()
        reference.step()
    assert all(map(torch.equal, map(complete, ours), truth))
    assert set(optimizer.state) == set(ours)
    assert not {"process_group"} & set(optimizer.state_dict()["param_groups"][0])
    assert copy.deepcopy(optimizer).process_group is None


def test_an_error_of_one_rank_is_an_error_of_all_and_changes_nothing() -> None:
    run_ranks(_assert_all_raise, 4)


def _assert_all_raise() -> None:
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
            _model(), use_orig_params=whole, device_id=torch.device("cpu")
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
    with pytest.raises(DtypeError, match="its running mean on every rank; expected the same"):
        optimizer.step()


def test_every_sign_is_computed_once_and_shards_travel_twice() -> None:
    for signs, entries in run_ranks(_count_signs_and_entries, 4):
        assert signs == [(1, 8, 12)]
        assert entries == [3 * (2 * 12), 3 * (2 * 12)]  # to three owners, and back to three ranks


def _count_signs_and_entries() -> tuple[list[tuple[int, ...]], list[int]]:
    """The shapes of the batches of signs, and the entries that this rank sends to others."""
    shard, signs, entries = places()["FSDP"], list[tuple[int, ...]](), list[int]()
    all_to_all, rank = dist.all_to_all_single, dist.get_rank()

    def sign(matrices: Tensor, **settings: Any) -> Tensor:
        signs.append(tuple(matrices.shape))
        return matrix_sign(matrices, **settings)

    def exchange(result: Tensor, entry: Tensor, lengths: Any, counts: Any, **group: Any) -> None:
        entries.append(sum(counts) - counts[rank])
        all_to_all(result, entry, lengths, counts, **group)

    params = [Parameter(shard(torch.ones(8, 12))) for _ in range(4)]
    for param in params:
        param.grad = shard(torch.eye(8, 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memsolve.optim.muon_update.matrix_sign", sign)
        patch.setattr(dist, "all_to_all_single", exchange)
        Muon(params).step()
    return signs, entries


PAGE = Path(__file__).parents[2] / "docs" / "muon-over-ranks.md"


def test_the_examples_of_the_page_run() -> None:
    run_ranks(_run_examples, 4)


def _run_examples() -> None:
    examples = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, PAGE, "exec"), {})


def test_a_checkpoint_moves_to_another_number_of_ranks(tmp_path: Path) -> None:
    for size, first, last in ((4, 0, 2), (2, 2, 3), (1, 3, 5)):
        (moved, *_) = run_ranks(_train, size, tmp_path, first, last)
    (stayed,) = run_ranks(_train, 1, tmp_path / "other", 0, 5)
    assert moved == stayed


PARTS = "model", "optimizer"


def _train(folder: Path, first: int, last: int) -> list[Any]:
    """The parameters and running means after some steps, from a checkpoint to another."""
    model: Any = _model() if dist.get_world_size() == 1 else fully_shard(_model())
    optimizer = Muon(model.named_parameters(), lr=0.1, weight_decay=0.1, schedule="muon")
    if first:
        weights, state = parts = get_state_dict(model, optimizer)
        load(dict(zip(PARTS, parts, strict=True)), checkpoint_id=folder / str(first))
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for param in model.parameters():
            param.grad = _like(param, torch.randn(param.shape, generator=generator))
        optimizer.step()
    parts = get_state_dict(model, optimizer)
    save(dict(zip(PARTS, parts, strict=True)), checkpoint_id=folder / str(last))
    means = [optimizer.state[param]["momentum_buffer"] for param in model.parameters()]
    return [complete(each).tolist() for each in (*model.parameters(), *means)]


def _like(param: Any, tensor: Tensor) -> Tensor:
    """A tensor, laid over the ranks as a parameter is."""
    if not isinstance(param, DTensor):
        return tensor
    return distribute_tensor(tensor, param.device_mesh, param.placements, src_data_rank=None)
