"""Muon over ranks: the bits of one process, whoever holds which part of a parameter."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import matrix_sign
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel

from memsolve.optim import Muon
from tests.memsolve.rank_cases import Place, complete, places, small_model
from tests.ranks import run_ranks

Shapes = Sequence[tuple[int, ...]]

SHAPES = [(5, 7), (5, 7), (5, 7), (3, 4), (1, 6), (6, 1), (4, 3, 2, 2), (8, 16)]
SETTINGS: list[dict[str, Any]] = [
    {"momentum": 0.0, "damping": 0.3, "adjust_lr_fn": "match_rms_adamw"},
    {"nesterov": False, "weight_decay": 0.3, "lr": torch.tensor(0.1)},
    {"foreach": False, "maximize": True, "gradient_dtype": torch.bfloat16},
    {"relative_damping": 0.1},
    {"relative_damping": 0.1, "damping_norm": "frobenius"},
    {"momentum_dtype": torch.float64},
    {"backend": "torch", "schedule": "muon", "damping": 0.1},
]
STACKS: Shapes = [(4, 6, 5), (4, 6, 5), (3, 2, 5), (1, 4, 3), (2, 2, 3, 2)]


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
        "DDP": DistributedDataParallel(small_model()),
        "FSDP2": fully_shard(small_model()),
        "HSDP": fully_shard(small_model(), mesh=grid),
        "TP": parallelize_module(small_model(), grid["model"], plan),
        "FSDP2 and TP": fully_shard(
            parallelize_module(small_model(), grid["model"], plan), mesh=grid["data"]
        ),
    }
    for name, model in models.items():
        group = dist.group.WORLD if name == "DDP" else None
        ours = Muon(model.named_parameters(), lr=0.1, weight_decay=0.1, process_group=group)
        params, copies = list(model.parameters()), list(small_model().parameters())
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
    model: Any = small_model() if dist.get_world_size() == 1 else fully_shard(small_model())
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
