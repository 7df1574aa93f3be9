"""Tensors and models laid over ranks, for tests of Muon."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

Place = Callable[[Tensor], Tensor]


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


def small_model() -> nn.Module:
    """The same model on every rank."""
    torch.manual_seed(0)
    shapes = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), nn.Linear(3, 1)]
    for layer in shapes:
        if isinstance(layer, nn.Linear):
            layer.register_parameter("bias", None)
    return nn.Sequential(*shapes)
