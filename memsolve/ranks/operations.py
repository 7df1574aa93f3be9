"""What rank 0 sends to the other ranks, and what each of them computes of its share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from memsolve_kernels.errors import DeviceError, InputError
from torch import Tensor

from memsolve.environment import Environment, environment
from memsolve.frequencies import Batch
from memsolve.problem import AssociativeMemory
from memsolve.ranks.group import Group

Function = Callable[..., Sequence[Tensor]]
"""Of a memory, the items of a share or a batch of them, and matrices (d, d)."""

SUMS: dict[str, Function] = {
    "loss": lambda memory, batch, weight: [memory.loss(weight, batch)],
    "loss_and_gradient": lambda memory, batch, weight: memory.loss_and_gradient(weight, batch),
    "hvp": lambda memory, batch, *matrices: [memory.hvp(*matrices, batch)],
    "gradient_at_zero": lambda memory, batch: [memory.gradient_at_zero(batch)],
    "input_moment": lambda memory, batch, *weight: [memory.curvature(batch, *weight).inputs],
    "gradient_moments": lambda memory, items, weight=None: memory.gradient_moments(weight, items),
}
"""Tensors that are added over the shares."""

ANSWERS: dict[str, Function] = {
    "recall": lambda memory, items, weight: [memory.recall(weight, items).recovered],
    "retrieval": lambda memory, items, weight: memory.retrieval(weight, items),
}
"""Tensors with one value for each item of a share."""

MUST_AGREE = "memsolve", "torch", "numpy"
"""Entries of the environment that all ranks must share; on GPUs, also the device."""


@dataclass(frozen=True)
class Creation:
    """The request to make a memory.

    Attributes:
        memory: its number.
        arguments: of `AssociativeMemory`.
        environment: of rank 0.
    """

    memory: int
    arguments: Mapping[str, Any]
    environment: Environment

    def run(self, group: Group) -> AssociativeMemory:
        """The memory, on this rank. Every rank makes its own, from the same seed."""
        with group.agreement():
            device = torch.device(self.arguments["device"])
            check_device(device, group.local_rank)
            check_environment(self.environment, device)
            return AssociativeMemory(**self.arguments)


class Arguments(NamedTuple):
    """The tensors of an operation.

    Attributes:
        items: (U,) int64; None stands for all.
        weights: (U,) of the items; None where the operation takes none, or all items have their
            frequencies.
        matrices: (d, d) each.
    """

    items: Tensor | None
    weights: Tensor | None
    matrices: Sequence[Tensor]

    def tensors(self) -> list[Tensor]:
        """Those that rank 0 sends, in order, ready to be sent."""
        tensors = self.items, self.weights, *self.matrices
        return [each.detach().contiguous() for each in tensors if each is not None]


@dataclass(frozen=True)
class Operation:
    """The request to perform an operation of a memory; its arguments follow.

    Attributes:
        memory: number of the memory.
        name: in `SUMS` or `ANSWERS`.
        items: how many items follow; None stands for all, and none follow.
        weighted: whether the operation takes a batch, or items alone.
        matrices: how many matrices follow.
    """

    memory: int
    name: str
    items: int | None
    weighted: bool
    matrices: int

    def receive(self, group: Group, memory: AssociativeMemory) -> Arguments:
        """The arguments that rank 0 sends."""

        def receive(dtype: torch.dtype, *shape: int) -> Tensor:
            return group.broadcast(torch.empty(shape, dtype=dtype, device=memory.device))

        items = None if self.items is None else receive(torch.int64, self.items)
        weights = None if items is None or not self.weighted else receive(memory.dtype, len(items))
        shape = memory.dim, memory.dim
        return Arguments(
            items, weights, [receive(memory.dtype, *shape) for _ in range(self.matrices)]
        )

    def run(self, group: Group, memory: AssociativeMemory, arguments: Arguments) -> list[Tensor]:
        """Compute this rank's share, and exchange it; on rank 0, the results over all shares.

        Raises:
            RankError: a rank failed. If rank 0 did, it raises its own error.
        """
        if self.name in SUMS:
            return self._sum(group, memory, arguments)
        with group.agreement(), torch.no_grad():
            share = self._share(group, memory, arguments)
            answers = ANSWERS[self.name](memory, share, *arguments.matrices)
            count = memory.num_items if self.items is None else self.items
            columns = [group.columns(each, count) for each in answers]
        return [*map(group.interleave, columns)]

    def _sum(self, group: Group, memory: AssociativeMemory, arguments: Arguments) -> list[Tensor]:
        with group.agreement(), torch.no_grad():
            share = self._share(group, memory, arguments)
            parts = SUMS[self.name](memory, share, *arguments.matrices)
            slices = group.slices(torch.cat([part.reshape(-1) for part in parts]))
        sizes = [part.numel() for part in parts]
        sums = group.sum(slices)[: sum(sizes)].split(sizes)
        return [total.view_as(part) for total, part in zip(sums, parts, strict=True)]

    def _share(
        self, group: Group, memory: AssociativeMemory, arguments: Arguments
    ) -> Tensor | Batch:
        items, weights, _ = arguments
        if items is None:
            items, weights = memory.population()
        if not self.weighted:
            return group.share(items)
        assert weights is not None
        return Batch(group.share(items), group.share(weights))


def check_device(device: torch.device, local_rank: int) -> None:
    """Refuse a GPU that is not this rank's own.

    Raises:
        DeviceError: says why.
    """
    if device.type != "cuda":
        return
    if device.index is not None:
        raise DeviceError(
            f"device is '{device}'; expected cuda, of which each rank takes its own, or cpu"
        )
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"there are {torch.cuda.device_count()} GPUs for at least {local_rank + 1} ranks; "
            "start one rank a GPU, or take --device cpu"
        )


def check_environment(first: Environment, device: torch.device) -> None:
    """Refuse a rank whose memory might differ from that of rank 0.

    Raises:
        InputError: names the first entry that differs.
    """
    here = environment(str(device))
    for name in (*MUST_AGREE, *(["device"] if device.type == "cuda" else [])):
        if here[name] != first[name]:
            raise InputError(
                f"{name} is {here[name]!r} there and {first[name]!r} on rank 0; expected the same"
            )
