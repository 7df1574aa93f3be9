"""A transformer trained by Muon and its auxiliary AdamW in one optimizer, also over ranks."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from memsolve_kernels.errors import InputError, NonFiniteError
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from memsolve.optim import Muon, split_params
from memsolve.optim.muon_layout import local_part
from tests.memsolve.rank_cases import complete
from tests.memsolve.small_transformer import Transformer, sequences
from tests.ranks import run_ranks

PARTS = "model", "optimizer"


def optimizer_of(model: Any, **settings: Any) -> Muon:
    """Muon for the hidden matrices, and AdamW for embeddings, head and vectors."""
    module = model.module if isinstance(model, DistributedDataParallel) else model
    hidden, others = split_params(module, exclude=[module.head])
    groups = [hidden | {"lr": 0.02, "weight_decay": 0.1}, others | {"lr": 3e-3}]
    return Muon(groups, **settings)


def train(model: nn.Module, optimizer: Muon, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        optimizer.zero_grad()
        loss = model(sequences(step))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def state_of(model: nn.Module, optimizer: Muon) -> dict[str, Tensor]:
    """All parameters and running means by name, complete."""
    tensors = dict[str, Tensor]()
    for name, param in model.named_parameters():
        tensors[name] = complete(param).clone()
        for key, value in optimizer.state[param].items():
            tensors[f"{name} {key}"] = complete(value).clone()
    return tensors


def equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[key], others[key]) for key in some)


def write(model: nn.Module, optimizer: Muon, path: Path) -> None:
    parts = get_state_dict(model, optimizer)
    save(dict(zip(PARTS, parts, strict=True)), checkpoint_id=path)


def read(model: nn.Module, optimizer: Muon, path: Path) -> None:
    weights, state = parts = get_state_dict(model, optimizer)
    load(dict(zip(PARTS, parts, strict=True)), checkpoint_id=path)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (torch.float32, {}),
        (torch.float32, {"momentum_dtype": torch.bfloat16}),
        (torch.bfloat16, {"kahan_sum": True, "momentum_dtype": torch.float32}),
    ],
)
def test_a_transformer_trains_and_resumes_to_the_bit(
    tmp_path: Path, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    model = Transformer().to(dtype)
    optimizer = optimizer_of(model, **settings)
    losses = train(model, optimizer, 0, 40)
    assert losses[-1] < 0.5 * losses[0]
    assert {len(group["params"]) for group in optimizer.param_groups} == {8, 18}
    write(model, optimizer, tmp_path)
    other = Transformer().to(dtype)
    resumed = optimizer_of(other, **settings)
    read(other, resumed, tmp_path)
    assert equal(state_of(other, resumed), state_of(model, optimizer))
    assert train(other, resumed, 40, 43) == train(model, optimizer, 40, 43)
    assert equal(state_of(other, resumed), state_of(model, optimizer))


def test_over_ranks_each_parameter_steps_as_on_one_process() -> None:
    run_ranks(_assert_models_step_alike, 4)


def _models() -> dict[str, Any]:
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
    parallel = Transformer()
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    for block in parallel.blocks:
        parallelize_module(block, grid["model"], plan)
    return {
        "DDP": DistributedDataParallel(Transformer()),
        "HSDP": fully_shard(Transformer(), mesh=grid),
        "FSDP2 and TP": fully_shard(parallel, mesh=grid["data"]),
    }


def _assert_models_step_alike() -> None:
    for name, model in _models().items():
        ours = optimizer_of(model, process_group=dist.group.WORLD if name == "DDP" else None)
        copied = Transformer()
        truth = optimizer_of(copied)
        params, copies = list(model.parameters()), list(copied.parameters())
        for step in range(2):
            model(sequences(4 * step + dist.get_rank())).backward()
            for param, other in zip(params, copies, strict=True):
                other.grad = complete(param.grad).clone()
            ours.step()
            truth.step()
            ours.zero_grad()
            assert all(map(torch.equal, map(complete, params), copies)), name
        assert any(isinstance(param, DTensor) for param in params) == (name != "DDP")
        _assert_faults_are_shared(ours, params, name)


def _assert_faults_are_shared(optimizer: Muon, params: list[Any], name: str) -> None:
    """NaN in a gradient of AdamW, and settings of AdamW that differ, on one rank."""
    faulty = optimizer.param_groups[1]["params"][0]
    for param in params:
        param.grad = param.detach().clone()
    before = [local_part(param.detach()).clone() for param in params]
    if dist.get_rank() == 1:
        local_part(faulty.grad).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match=r"parameter 'embedding\.weight' contains NaN"):
        optimizer.step()
    faulty.grad = faulty.detach().clone()
    if dist.get_rank() == 1:
        optimizer.param_groups[1]["betas"] = (0.5, 0.5)
    with pytest.raises(InputError, match=r"rank 0 has betas=\(0.9, 0.95\) in group 1, and rank 1"):
        optimizer.step()
    assert all(map(torch.equal, (local_part(each.detach()) for each in params), before)), name


def test_a_checkpoint_moves_to_another_number_of_ranks(tmp_path: Path) -> None:
    for size, first, last in ((2, 0, 2), (1, 2, 4)):
        (moved, *_) = run_ranks(_continue, size, tmp_path, first, last)
    (stayed,) = run_ranks(_continue, 1, tmp_path / "other", 0, 4)
    assert moved == stayed


def _continue(folder: Path, first: int, last: int) -> dict[str, Any]:
    """Everything after some steps on random gradients, from a checkpoint to another."""
    model: Any = Transformer() if dist.get_world_size() == 1 else fully_shard(Transformer())
    optimizer = optimizer_of(model)
    if first:
        read(model, optimizer, folder / str(first))
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for param in model.parameters():
            gradient = torch.randn(param.shape, generator=generator)
            param.grad = _like(param, gradient)
        optimizer.step()
    write(model, optimizer, folder / str(last))
    return {name: value.tolist() for name, value in state_of(model, optimizer).items()}


def _like(param: Any, tensor: Tensor) -> Tensor:
    """A tensor, laid over the ranks as a parameter is."""
    if not isinstance(param, DTensor):
        return tensor
    return distribute_tensor(tensor, param.device_mesh, param.placements, src_data_rank=None)


def test_a_copy_of_model_and_optimizer_goes_on_alike() -> None:
    model = Transformer()
    optimizer = optimizer_of(model)
    train(model, optimizer, 0, 2)
    other, copied = copy.deepcopy((model, optimizer))
    assert train(other, copied, 2, 4) == train(model, optimizer, 2, 4)
