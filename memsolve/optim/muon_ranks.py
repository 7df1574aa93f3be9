"""The exchange of matrices between ranks: shards go to the owner of their matrix, signs come back.

One move follows each axis of a layout, from the last that split a tensor to the first. After all of
them an owner holds its tensors complete. The moves in reverse bring back what it makes of them.
"""

import heapq
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from memsolve.optim.muon_layout import Axis, Shape

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


class Move(NamedTuple):
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


def moves_of(
    axes: tuple[Axis, ...], shapes: Sequence[Shape], owners: Sequence[Owner], like: Tensor
) -> list[Move]:
    """The moves that complete tensors.

    Args:
        axes: in the order in which they split the tensors.
        shapes: of the complete tensors.
        owners: of the tensors.
        like: a tensor of their dtype and device.
    """
    moves: list[Move] = []
    indices = list(range(len(shapes)))
    for level in reversed(range(len(axes))):
        axis, outer = axes[level], axes[:level]
        peers = [owners[index][level] for index in indices]
        moves.append(Move(axis, peers, [_part(shapes[index], outer) for index in indices], like))
        indices = [indices[at] for at in moves[-1].owned(axis.group.rank())]
    return moves


def gather(shards: Sequence[Tensor], moves: Sequence[Move]) -> list[Tensor]:
    """The complete tensors that this rank owns, of its shards of all."""
    tensors = list(shards)
    for move in moves:
        tensors = _gather(tensors, move)
    return tensors


def scatter(tensors: Sequence[Tensor], moves: Sequence[Move]) -> list[Tensor]:
    """The shards of all tensors on this rank, of the complete ones that it owns."""
    shards = list(tensors)
    for move in reversed(moves):
        shards = _broadcast(shards, move) if move.axis.dim is None else _scatter(shards, move)
    return shards


def _gather(shards: list[Tensor], move: Move) -> list[Tensor]:
    (group, dim), ranks = move.axis, range(move.axis.group.size())
    mine = move.owned(group.rank())
    if dim is None:
        return [shards[index] for index in mine]
    shapes = [[move.axis.shard(move.shapes[index], rank) for index in mine] for rank in ranks]
    sent = [[shards[index] for index in move.owned(rank)] for rank in ranks]
    received = _all_to_all(sent, shapes, move)
    return [torch.cat(parts, dim) for parts in zip(*received, strict=True)]


def _scatter(tensors: list[Tensor], move: Move) -> list[Tensor]:
    (group, dim), ranks = move.axis, range(move.axis.group.size())
    assert dim is not None
    mine = [move.shapes[index] for index in move.owned(group.rank())]
    lengths = [[move.axis.shard(shape, rank)[dim] for rank in ranks] for shape in mine]
    parts = [tensor.split(each, dim) for tensor, each in zip(tensors, lengths, strict=True)]
    sent = [[part[rank] for part in parts] for rank in ranks]
    shards = [move.axis.shard(shape, group.rank()) for shape in move.shapes]
    shapes = [[shards[index] for index in move.owned(rank)] for rank in ranks]
    received = [iter(tensors) for tensors in _all_to_all(sent, shapes, move)]
    return [next(received[owner]) for owner in move.owners]


def _broadcast(tensors: list[Tensor], move: Move) -> list[Tensor]:
    """All tensors on every rank, each from its owner; one transfer for each owner."""
    group, works, received = move.axis.group, [], []
    for rank in range(group.size()):
        shapes = [move.shapes[index] for index in move.owned(rank)]
        numbers = sum(map(_numel, shapes))
        buffer = _join(tensors, move) if rank == group.rank() else move.like.new_empty(numbers)
        received.append(iter(_split(buffer, shapes)))
        if numbers:
            works.append(dist.broadcast(buffer, group=group, group_src=rank, async_op=True))
    for work in works:
        work.wait()
    return [next(received[owner]) for owner in move.owners]


def _all_to_all(
    sent: list[list[Tensor]], shapes: list[list[Shape]], move: Move
) -> list[list[Tensor]]:
    """The tensors that each rank sent to this one, of these shapes, by rank."""
    buffer = _join([tensor for tensors in sent for tensor in tensors], move)
    lengths = [sum(map(_numel, each)) for each in shapes]
    received = buffer.new_empty(sum(lengths))
    counts = [sum(tensor.numel() for tensor in tensors) for tensors in sent]
    dist.all_to_all_single(received, buffer, lengths, counts, group=move.axis.group)
    parts = received.split(lengths)
    return [_split(part, each) for part, each in zip(parts, shapes, strict=True)]


def _join(tensors: Sequence[Tensor], move: Move) -> Tensor:
    """The numbers of some tensors, or of none, in one buffer."""
    return torch.cat([move.like.new_empty(0), *(tensor.reshape(-1) for tensor in tensors)])


def _split(buffer: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    parts = buffer.split([_numel(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _part(shape: Shape, axes: Sequence[Axis]) -> Shape:
    """The shape of this rank's part of a tensor that some axes split."""
    for axis in axes:
        shape = axis.shard(shape, axis.group.rank())
    return shape


def _numel(shape: Shape) -> int:
    return torch.Size(shape).numel()
