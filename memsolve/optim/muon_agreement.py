"""An error of one rank becomes an error of all, so that none waits for a rank that has left."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from memsolve_kernels.errors import InputError
from torch import Tensor
from torch.distributed import ProcessGroup

from memsolve.optim.muon_checks import Group
from memsolve.optim.muon_layout import is_dtensor


class Ranks(NamedTuple):
    """Ranks that make a step together.

    Attributes:
        groups: process groups that connect them, the largest last.
        device: of the tensors that the groups exchange.
    """

    groups: tuple[ProcessGroup, ...]
    device: torch.device


def ranks_of(groups: Iterable[Group], process_group: ProcessGroup | None) -> Ranks:
    """The ranks that step the parameters of these groups, at least one of them, together."""
    params: list[Any] = [
        param
        for group in groups
        for param in group["params"]
        if is_dtensor(param) or process_group is not None
    ]
    meshes = dict.fromkeys(param.device_mesh for param in params if is_dtensor(param))
    connections = [group for mesh in meshes for group in mesh.get_all_groups()]
    if process_group is not None:
        connections.append(process_group)
    by_size = sorted(dict.fromkeys(connections), key=lambda group: group.size())
    return Ranks(tuple(group for group in by_size if group.size() > 1), params[0].device)


def describe(
    groups: Iterable[Group], settings: Iterable[str], process_group: ProcessGroup | None
) -> list[str]:
    """What has to be equal on all ranks before they exchange tensors, a line for each thing.

    Args:
        groups: of parameters.
        settings: names of the hyperparameters; values that are tensors are left out.
        process_group: of plain parameters.
    """
    lines: list[str] = []
    for number, group in enumerate(groups):
        names = group.get("param_names") or range(len(group["params"]))
        for name, param in zip(names, group["params"], strict=True):
            if is_dtensor(param) or process_group is not None:
                lines.append(f"parameter {name} of group {number} {_describe(param)}")
        values = {name: group[name] for name in settings if name in group}
        numbers = {name: each for name, each in values.items() if not isinstance(each, Tensor)}
        lines += [f"{name}={each} in group {number}" for name, each in numbers.items()]
    return lines


def _describe(param: Any) -> str:
    placements = [getattr(each, "placements", "plain") for each in (param, param.grad)]
    gradient = "no gradient" if param.grad is None else f"a gradient ({placements[1]})"
    return f"({tuple(param.shape)}, {param.dtype}, {placements[0]}) with {gradient}"


class _Report(NamedTuple):
    rank: int
    error: tuple[type[Exception], str] | None
    description: list[str]


@contextmanager
def agreement(ranks: Ranks) -> Iterator[list[str]]:
    """Leave a block on all ranks alike.

    Takes one all-reduce of 24 bytes in each group, and waits for it.

    Yields:
        A list to describe what has to be equal on all ranks, a line for each thing.

    Raises:
        Exception: what the block raised on this rank; else, of the first rank that raised, an error
            of the same class if it is an InputError, or RuntimeError.
        InputError: the descriptions differ.
    """
    description: list[str] = []
    error: Exception | None = None
    try:
        yield description
    except Exception as raised:
        error = raised
    digest = int.from_bytes(blake2b("\n".join(description).encode(), digest_size=7).digest())
    maxima = torch.tensor([error is not None, digest, -digest], device=ranks.device)
    for group in ranks.groups:
        dist.all_reduce(maxima, dist.ReduceOp.MAX, group)
    any_failed, largest, minus_smallest = maxima.tolist()
    if any_failed or largest + minus_smallest:
        reports = _reports(_Report(dist.get_rank(), _summarize(error), description), ranks)
        raise error or _error_of(reports)


def _reports(report: _Report, ranks: Ranks) -> list[_Report]:
    """The reports of all ranks, by rank."""
    reports = [report]
    for group in ranks.groups:
        lists: list[list[_Report]] = [[] for _ in range(group.size())]
        dist.all_gather_object(lists, reports, group=group)
        reports = [each for some in lists for each in some]
    return sorted({each.rank: each for each in reports}.values(), key=lambda each: each.rank)


def _error_of(reports: Sequence[_Report]) -> Exception:
    """The error on ranks that have none of their own."""
    for rank, failure, _ in reports:
        if failure is not None:
            return failure[0](f"rank {rank} raised: {failure[1]}")
    first = reports[0]
    for other in reports:
        for one, two in zip(first.description, other.description, strict=False):
            if one != two:
                return InputError(
                    f"rank {first.rank} has {one}, and rank {other.rank} has {two}; expected the "
                    "same parameters, gradients and settings on all ranks"
                )
    return InputError("ranks have different numbers of parameters; expected the same on all ranks")


def _summarize(error: Exception | None) -> tuple[type[Exception], str] | None:
    """The class and the message of an error, as other ranks raise it."""
    if error is None:
        return None
    if isinstance(error, InputError):
        return type(error), str(error)
    return RuntimeError, f"{type(error).__name__}: {error}"
