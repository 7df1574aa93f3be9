"""How a parameter lies over ranks: the process groups that split or repeat its matrices."""

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

from torch import Tensor
from torch.distributed import ProcessGroup

Shape = tuple[int, ...]


class Axis(NamedTuple):
    """A process group whose ranks hold shards of a tensor, or the same tensor.

    Attributes:
        group: the ranks.
        dim: the dimension that is split as by `torch.chunk`; None if all ranks hold the same.
    """

    group: ProcessGroup
    dim: int | None

    def shard(self, shape: Shape, rank: int) -> Shape:
        """The shape of the shard of a rank of the group."""
        if self.dim is None:
            return shape
        length = -(-shape[self.dim] // self.group.size())
        start = min(rank * length, shape[self.dim])
        return (*shape[: self.dim], min(length, shape[self.dim] - start), *shape[self.dim + 1 :])


def local_shape(shape: Shape, axes: Iterable[Axis]) -> Shape:
    """The shape of this rank's part of a tensor that some axes split, in their order."""
    for axis in axes:
        shape = axis.shard(shape, axis.group.rank())
    return shape


class Layout(NamedTuple):
    """What the ranks exchange to complete the matrices of a parameter.

    Attributes:
        shape: of the part of the parameter that the ranks hold between them.
        axes: in the order in which they split the part, then those that repeat it. Without any,
            this rank computes the signs of its complete matrices alone.
    """

    shape: Shape
    axes: tuple[Axis, ...]


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor; asked without the import of its package, which is slow."""
    return hasattr(tensor, "device_mesh")


def local_part(tensor: Any) -> Tensor:
    """The part of a tensor on this rank, which shares its memory; call it without gradients."""
    part: Tensor = tensor.to_local() if is_dtensor(tensor) else tensor
    return part


def redistribute_like(gradient: Any, param: Any) -> Tensor:
    """A gradient with the placements of its parameter; sums that are due are made, by all ranks."""
    if is_dtensor(param) and gradient.placements != param.placements:
        gradient = gradient.redistribute(placements=param.placements)
    result: Tensor = gradient
    return result


def layout_of(param: Any, batch_dims: int, process_group: ProcessGroup | None) -> Layout:
    """The layout of a parameter.

    A dimension that only counts matrices may stay split: each rank steps its own matrices.

    Args:
        param: a plain parameter, which is the same on all ranks of `process_group`; or a DTensor
            that `layout_error` accepts.
        batch_dims: number of leading batch dimensions.
        process_group: of plain parameters; None to step each on every rank.
    """
    shape: Shape = param.shape
    if not is_dtensor(param):
        axes = [] if process_group is None else [Axis(process_group, None)]
        return Layout(shape, _without_singles(axes))
    axes = []
    for axis in _axes(param):
        if axis.dim is not None and axis.dim < batch_dims:
            shape = axis.shard(shape, axis.group.rank())
        else:
            axes.append(axis)
    return Layout(shape, _without_singles(axes))


def layout_error(param: Any) -> str | None:
    """Why a parameter cannot be exchanged, as a sentence without its subject; None if it can."""
    if getattr(param, "_fsdp_flattened", False) and param.ndim < 2:
        return (
            "is a flat shard of FullyShardedDataParallel (FSDP1), which holds no matrices; use "
            "fully_shard (FSDP2)"
        )
    if not is_dtensor(param):
        return None
    mesh, placements = param.device_mesh, param.placements
    if mesh.get_coordinate() is None:
        return f"lies on {mesh}, to which this rank does not belong; give it to the mesh's ranks"
    if not all(_is_known(mesh, placements, at) for at in range(mesh.ndim)):
        return (
            f"has placements {placements} on {mesh}; Muon takes Shard and Replicate, and the "
            "placements of fully_shard after parallelize_module. Redistribute it first"
        )
    shape = local_shape(tuple(param.shape), _axes(param))
    part = tuple(param.to_local().shape)
    if part != shape:
        return (
            f"has a part of shape {part} on this rank; expected {shape}, as torch.chunk splits it"
        )
    return None


def _axes(param: Any) -> list[Axis]:
    """The axes of a DTensor, in the order in which they split it, and those that repeat it last.

    A strided shard is split after the shards of other dimensions of the mesh.
    """
    mesh, placements = param.device_mesh, param.placements
    strided = [_split_factor(each) is not None for each in placements]
    order = sorted(range(mesh.ndim), key=lambda at: (placements[at].is_replicate(), strided[at]))
    return [Axis(mesh.get_group(at), getattr(placements[at], "dim", None)) for at in order]


def _is_known(mesh: Any, placements: Any, at: int) -> bool:
    """Whether the axes say what a placement means."""
    placement, factor = placements[at], _split_factor(placements[at])
    if factor is None:
        return bool(placement.is_replicate() or placement.is_shard())
    others = [other for other in range(mesh.ndim) if other != at]
    inner = [i for i in others if getattr(placements[i], "dim", None) == placement.dim]
    alone = all(_split_factor(placements[other]) is None and other > at for other in inner)
    return alone and factor == prod(mesh.size(other) for other in inner)


def _split_factor(placement: Any) -> int | None:
    """Of torch's `_StridedShard`, in how many shards others have split the dimension before."""
    factor: int | None = getattr(placement, "split_factor", None)
    return factor


def _without_singles(axes: list[Axis]) -> tuple[Axis, ...]:
    return tuple([axis for axis in axes if axis.group.size() > 1])
