"""The exchange of matrices between ranks: shards go to the owner of their matrix, signs come back.

There is one exchange along each axis of a layout, from the last that split a tensor to the first.
After all of them an owner holds its tensors complete. In reverse, they bring its results back.
"""

import heapq
from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from memsolve.optim.muon_layout import Axis, Shape, local_shape

Owner = tuple[int, ...]
"""The rank that completes a tensor, by its rank in the group of each axis."""


class Owners:
    """Owners of the tensors of a step, so that each rank gets about the same work."""

    def __init__(self) -> None:
        self._loads: dict[tuple[Axis, ...], list[tuple[float, Owner]]] = {}

    def assign(self, axes: tuple[Axis, ...], flops: Sequence[float]) -> list[Owner]:
        """The owner of each tensor: the rank with the least work so far, largest tensors first."""
        ranks = product(*(range(axis.group.size()) for axis in axes))
        groups = tuple(axis._replace(dim=None) for axis in axes)
        loads = self._loads.setdefault(groups, [(0.0, rank) for rank in ranks])
        owners: dict[int, Owner] = {}
        for index in sorted(range(len(flops)), key=lambda index: -flops[index]):
            load, owners[index] = loads[0]
            heapq.heapreplace(loads, (load + flops[index], owners[index]))
        return [owners[index] for index in range(len(flops))]


class Exchange(NamedTuple):
    """The exchange along one axis.

    Attributes:
        axis: whose ranks take part.
        owners: of each tensor that this rank has a shard of, the rank of the axis it goes to.
        shapes: of these tensors, complete along the axis.
        like: a tensor of their dtype and device.
    """

    axis: Axis
    owners: list[int]
    shapes: list[Shape]
    like: Tensor

    def owned(self, rank: int) -> list[int]:
        """The indices of the tensors that a rank owns."""
        return [index for index, owner in enumerate(self.owners) if owner == rank]


def exchanges_of(
    axes: tuple[Axis, ...], shapes: Sequence[Shape], owners: Sequence[Owner], like: Tensor
) -> list[Exchange]:
    """The exchanges that complete tensors.

    Args:
        axes: in the order in which they split the tensors.
        shapes: of the complete tensors.
        owners: of the tensors.
        like: a tensor of their dtype and device.
    """
    exchanges: list[Exchange] = []
    indices = list(range(len(shapes)))
    for level in reversed(range(len(axes))):
        axis, outer = axes[level], axes[:level]
        peers = [owners[index][level] for index in indices]
        parts = [local_shape(shapes[index], outer) for index in indices]
        exchanges.append(Exchange(axis, peers, parts, like))
        indices = [indices[at] for at in exchanges[-1].owned(axis.group.rank())]
    return exchanges


def gather(shards: Sequence[Tensor], exchanges: Sequence[Exchange]) -> list[Tensor]:
    """The complete tensors that this rank owns, of its shards of all."""
    tensors = list(shards)
    for exchange in exchanges:
        tensors = _gather(tensors, exchange)
    return tensors


def scatter(tensors: Sequence[Tensor], exchanges: Sequence[Exchange]) -> list[Tensor]:
    """The shards of all tensors on this rank, of the complete ones that it owns."""
    shards = list(tensors)
    for exchange in reversed(exchanges):
        send = _broadcast if exchange.axis.dim is None else _scatter
        shards = send(shards, exchange)
    return shards


def _gather(shards: list[Tensor], exchange: Exchange) -> list[Tensor]:
    axis, ranks = exchange.axis, range(exchange.axis.group.size())
    own = exchange.owned(axis.group.rank())
    if axis.dim is None:
        return [shards[index] for index in own]
    to_ranks = [[shards[index] for index in exchange.owned(rank)] for rank in ranks]
    shapes = [[axis.shard(exchange.shapes[index], rank) for index in own] for rank in ranks]
    from_ranks = _all_to_all(to_ranks, shapes, exchange)
    return [torch.cat(parts, axis.dim) for parts in zip(*from_ranks, strict=True)]


def _scatter(tensors: list[Tensor], exchange: Exchange) -> list[Tensor]:
    axis, ranks = exchange.axis, range(exchange.axis.group.size())
    assert axis.dim is not None
    own = [exchange.shapes[index] for index in exchange.owned(axis.group.rank())]
    lengths = [[axis.shard(shape, rank)[axis.dim] for rank in ranks] for shape in own]
    parts = [tensor.split(each, axis.dim) for tensor, each in zip(tensors, lengths, strict=True)]
    to_ranks = [[part[rank] for part in parts] for rank in ranks]
    shards = [axis.shard(shape, axis.group.rank()) for shape in exchange.shapes]
    shapes = [[shards[index] for index in exchange.owned(rank)] for rank in ranks]
    from_ranks = [iter(each) for each in _all_to_all(to_ranks, shapes, exchange)]
    return [next(from_ranks[owner]) for owner in exchange.owners]


def _broadcast(tensors: list[Tensor], exchange: Exchange) -> list[Tensor]:
    """All tensors on every rank, each from its owner; one transfer for each owner."""
    group, works, from_ranks = exchange.axis.group, [], []
    for rank in range(group.size()):
        shapes = [exchange.shapes[index] for index in exchange.owned(rank)]
        if rank == group.rank():
            buffer = _join(tensors, exchange.like)
        else:
            buffer = exchange.like.new_empty(sum(map(prod, shapes)))
        if buffer.numel():
            works.append(dist.broadcast(buffer, group=group, group_src=rank, async_op=True))
        from_ranks.append(iter(_split(buffer, shapes)))
    for work in works:
        work.wait()
    return [next(from_ranks[owner]) for owner in exchange.owners]


def _all_to_all(
    to_ranks: list[list[Tensor]], shapes: list[list[Shape]], exchange: Exchange
) -> list[list[Tensor]]:
    """What each rank sends to this one, of these shapes, for what this one sends to each."""
    buffer = _join([tensor for tensors in to_ranks for tensor in tensors], exchange.like)
    counts = [sum(tensor.numel() for tensor in tensors) for tensors in to_ranks]
    lengths = [sum(map(prod, each)) for each in shapes]
    result = buffer.new_empty(sum(lengths))
    dist.all_to_all_single(result, buffer, lengths, counts, group=exchange.axis.group)
    parts = result.split(lengths)
    return [_split(part, each) for part, each in zip(parts, shapes, strict=True)]


def _join(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """The entries of some tensors, or of none, in one buffer."""
    return torch.cat([like.new_empty(0), *(tensor.reshape(-1) for tensor in tensors)])


def _split(buffer: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    parts = buffer.split([prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
