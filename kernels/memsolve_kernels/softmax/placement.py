"""The ranks that hold the shards of outputs, and what a rank's own arguments must be for that."""

from typing import Any

import torch.distributed as dist
from torch import Tensor

from memsolve_kernels.errors import DtypeError, InputError
from memsolve_kernels.modes import is_distributed, is_traced
from memsolve_kernels.softmax.checks import Arguments, check_arguments

NO_SIZE = -1


def ranks_of(outputs: Any, group: object) -> dist.ProcessGroup:
    """The group given, or that of a DTensor.

    Raises:
        DtypeError: what is given is no group.
        InputError: the DTensor has a mesh of several dimensions.
    """
    if group is None:
        if outputs.device_mesh.ndim != 1:
            raise _placement_error(outputs)
        ranks: dist.ProcessGroup = outputs.device_mesh.get_group()
        return ranks
    if not isinstance(group, dist.ProcessGroup):
        raise DtypeError(
            f"group has type {type(group).__name__}; expected a torch.distributed.ProcessGroup "
            "that this rank belongs to, such as torch.distributed.group.WORLD or mesh.get_group()"
        )
    return group


def to_local(arguments: Arguments, group: object, *, min_items: int = 1) -> tuple[Arguments, int]:
    """Check what a rank can check alone; arguments with its shard, and the size of a DTensor.

    Args:
        arguments: with a shard of the outputs, or a DTensor.
        group: as given, or None.
        min_items: smallest size of a shard.

    Returns:
        The arguments, with one dimension of queries, and the items of the DTensor that the shard
        belongs to, or `NO_SIZE`.

    Raises:
        InputError: a subclass, with the invalid argument and the reason.
        NotImplementedError: a tensor is traced.
    """
    _check_eager(arguments)
    outputs, total = arguments.outputs, NO_SIZE
    if is_distributed(outputs):
        from torch.distributed.tensor import Shard

        if group is not None:
            raise InputError("outputs are a DTensor, which has a group of its own: omit group=")
        if outputs.placements != (Shard(0),):
            raise _placement_error(outputs)
        arguments, total = arguments._replace(outputs=outputs.to_local()), outputs.shape[0]
    bias = arguments.options.bias
    if is_distributed(bias):
        arguments = arguments._replace(options=arguments.options._replace(bias=bias.to_local()))
    return check_arguments(arguments, min_items=min_items), total


def _check_eager(arguments: Arguments) -> None:
    for name, tensor in (arguments._asdict() | arguments.options.tensors).items():
        if isinstance(tensor, Tensor) and is_traced(tensor):
            raise NotImplementedError(
                f"{name} are traced or mapped, which sharded outputs do not support: use "
                "torch.autograd in place of torch.func, and call outside of torch.export"
            )
        if name not in ("outputs", "bias") and is_distributed(tensor):
            raise DtypeError(
                f"{name} are a DTensor; expected a tensor with the same values on every rank: "
                f"{name}.full_tensor()"
            )


def _placement_error(outputs: Any) -> InputError:
    return InputError(
        f"outputs are a DTensor placed as {outputs.placements} on {outputs.device_mesh.ndim} "
        "dimensions of ranks; expected (Shard(0),) on one: redistribute it, or pass "
        "outputs.to_local() with group= those ranks that share the items among them"
    )
