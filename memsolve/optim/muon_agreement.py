"""An error of one rank becomes an error of all, so that none waits for a rank that has left."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from memsolve_kernels.errors import InputError
from memsolve_kernels.modes import is_readable
from torch import Tensor
from torch.distributed import ProcessGroup

from memsolve.optim.muon_checks import Group
from memsolve.optim.muon_layout import is_dtensor


class Ranks(NamedTuple):
    """Ranks that make a step together.

    Attributes:
        groups: process groups that connect them, the largest last.
        device: of the tensors that the groups exchange.
        process_group: of those that hold the same plain parameters; None to share none of them.
    """

    groups: tuple[ProcessGroup, ...]
    device: torch.device
    process_group: ProcessGroup | None

    def are_replicas(self) -> bool:
        """Whether all of the ranks hold the same plain parameters, and there are several."""
        if self.process_group is None:
            return False
        replicas = set(dist.get_process_group_ranks(self.process_group))
        members = [set(dist.get_process_group_ranks(group)) for group in self.groups]
        return bool(members) and all(map(replicas.issuperset, members))


def ranks_of(groups: Iterable[Group], process_group: ProcessGroup | None) -> Ranks:
    """The ranks that step the parameters of these groups, at least one of them, together."""
    params = [param for group in groups for _, param in _shared_params(group, process_group)]
    meshes = dict.fromkeys(param.device_mesh for param in params if is_dtensor(param))
    connections = [group for mesh in meshes for group in mesh.get_all_groups()]
    if process_group is not None:
        connections.append(process_group)
    by_size = sorted(dict.fromkeys(connections), key=lambda group: group.size())
    several = tuple(group for group in by_size if group.size() > 1)
    return Ranks(several, params[0].device, process_group)


def describe(groups: Sequence[Group], settings: Iterable[str], ranks: Ranks) -> list[str]:
    """What has to be equal on all ranks before they exchange tensors, a line for each thing.

    Lines that count others precede them, so that the first difference is between lines on the same
    thing. Values on a GPU are left out.

    Args:
        groups: of parameters.
        settings: names of the hyperparameters.
        ranks: that step the parameters together.
    """
    lines = [f"num_groups={len(groups)}"]
    replicated = ranks.are_replicas()
    for number, group in enumerate(groups):
        params = _shared_params(group, ranks.process_group)
        lines.append(f"num_params={len(params)} in group {number}")
        lines += [
            f"parameter {name} of group {number} {_describe(param, replicated)}"
            for name, param in params
        ]
        lines += [f"{name}={_value(group[name])} in group {number}" for name in settings]
    return lines


def _shared_params(group: Group, process_group: ProcessGroup | None) -> list[tuple[Any, Any]]:
    """The parameters of a group that several ranks step together, by name or number."""
    names = group.get("param_names") or range(len(group["params"]))
    params = zip(names, group["params"], strict=True)
    return [each for each in params if is_dtensor(each[1]) or process_group is not None]


def _value(setting: object) -> object:
    """A hyperparameter, to be compared: of a tensor its value, unless it is on a GPU."""
    if not isinstance(setting, Tensor):
        return setting
    return setting.item() if is_readable(setting) else "a tensor"


def _describe(param: Any, replicated: bool) -> str:
    """A parameter; if ranks replicate plain ones, with the bits of its gradient on a CPU."""
    placements = [getattr(each, "placements", "plain") for each in (param, param.grad)]
    gradient = "no gradient" if param.grad is None else f"a gradient ({placements[1]})"
    if replicated and param.grad is not None and not is_dtensor(param) and is_readable(param.grad):
        gradient += f" of digest {_digest(param.grad):x}"
    return f"({tuple(param.shape)}, {param.dtype}, {placements[0]}) with {gradient}"


def _digest(tensor: Tensor) -> int:
    """56 bits that depend on every bit of a tensor in the memory of the CPU."""
    return _hash(tensor.detach().contiguous().view(torch.uint8).numpy())


def _hash(data: Any) -> int:
    """The first 56 bits of a hash of bytes, which an int64 holds with both signs."""
    return int.from_bytes(sha256(data, usedforsecurity=False).digest()[:7])


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
    digest = _hash("\n".join(description).encode())
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
    one, rank, two = next(
        (line, other.rank, differing)
        for other in reports
        for line, differing in zip(first.description, other.description, strict=False)
        if line != differing
    )
    return InputError(
        f"rank {first.rank} has {one}, and rank {rank} has {two}; expected the same on all ranks: "
        "parameters in one order, settings, and, under process_group, the bits of gradients"
    )


def _summarize(error: Exception | None) -> tuple[type[Exception], str] | None:
    """The class and the message of an error, as other ranks raise it."""
    if error is None:
        return None
    if isinstance(error, InputError):
        return type(error), str(error)
    return RuntimeError, f"{type(error).__name__}: {error}"
