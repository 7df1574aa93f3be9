"""What the ranks of a group exchange before a pass over sharded outputs, and check together.

The sizes of the shards go with all that has to be equal or valid on every rank, so that a wrong
argument of one rank raises on each, and none waits for another.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.errors import BackendError, DtypeError, InputError, ShapeError
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.checks import FLOATS, check_finite, check_inputs, check_values
from memsolve_kernels.softmax.interface import SoftmaxBackend, in_parts

NO_SIZE = -1
BACKENDS = ("reference", "torch", "triton")
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Arguments(NamedTuple):
    """The arguments of a public function.

    Attributes:
        queries: (B, d), the same on every rank, as are all but the outputs.
        outputs: (N_r, d), the rank's shard.
        targets: (B,), numbers of items among those of all ranks.
        weights: (B,).
        directions: (B, d).
        ignore_index: target value of ignored queries.
        backend: name, or None.
        precision: of the backend.
    """

    queries: Tensor
    outputs: Tensor
    targets: Tensor
    weights: Tensor | None = None
    directions: Tensor | None = None
    ignore_index: int | None = None
    backend: BackendName | None = None
    precision: Precision | None = None


class Header(NamedTuple):
    """What a rank tells the others before a pass, as integers.

    Attributes:
        valid: whether its arguments are.
        items: in its shard.
        total: items of the DTensor that its shard belongs to, or `NO_SIZE`.
        dim: d.
        dtype: of the outputs, by its place in `FLOATS`.
        batch: queries.
        backend: by its place in `BACKENDS`.
        tracked: whether queries or outputs need a gradient.
        digest: of the bits of all arguments but the outputs.
    """

    valid: int
    items: int = 0
    total: int = NO_SIZE
    dim: int = 0
    dtype: int = 0
    batch: int = 0
    backend: int = 0
    tracked: int = 0
    digest: int = 0


def agree(
    arguments: Arguments, group: dist.ProcessGroup, total: int = NO_SIZE
) -> tuple[SoftmaxBackend, int, int]:
    """Check the arguments of all ranks; the backend, this shard's first item, and the items of all.

    Args:
        arguments: of this rank.
        group: of the ranks, whose order is that of the shards.
        total: items of the DTensor that its shard belongs to, if any.

    Raises:
        InputError: a subclass, on every rank: what is invalid on one, or differs between them.
    """
    try:
        backend, header = _describe(arguments, total)
        headers = _gather(header, _digest(arguments), group)
    except InputError:
        device = getattr(arguments.queries, "device", None)
        _gather(Header(valid=0), torch.zeros((), dtype=torch.int64, device=device), group)
        raise
    _check_agreement(headers)
    num_items = sum(each.items for each in headers)
    queries, targets, _, directions = _without_ignored(arguments)
    finite = {"queries": queries} | ({} if directions is None else {"directions": directions})
    check_values(targets, num_items, wait=backend.indexes_targets, **finite)
    first = sum(each.items for each in headers[: group.rank()])
    return backend, first, num_items


def _describe(arguments: Arguments, total: int) -> tuple[SoftmaxBackend, Header]:
    """Check what this rank can check alone; its backend, and what the others have to know."""
    queries, outputs, *_ = arguments
    check_inputs(*arguments[:5], min_items=0)
    check_finite(outputs=outputs)
    backend = select_backend(queries, arguments.backend, arguments.precision)
    tracked = torch.is_grad_enabled() and (queries.requires_grad or outputs.requires_grad)
    return backend, Header(
        valid=1,
        items=outputs.shape[0],
        total=total,
        dim=outputs.shape[1],
        dtype=FLOATS.index(outputs.dtype),
        batch=queries.shape[0],
        backend=BACKENDS.index(backend.name),
        tracked=int(tracked),
    )


def _gather(header: Header, digest: Tensor, group: dist.ProcessGroup) -> list[Header]:
    """The headers of all ranks: one collective of a few integers, whose result is read."""
    own = torch.tensor(header, dtype=torch.int64, device=digest.device)
    own[-1] = digest
    gathered = own.new_empty(group.size(), len(header))
    dist.all_gather(list(gathered), own, group=group)
    return [Header(*row) for row in gathered.tolist()]


_GATHER = "every rank must pass the same ones: gather the batches of all ranks"
_DIFFERENCES: dict[str, tuple[type[InputError], str]] = {
    "dim": (ShapeError, "outputs have d = {} on rank {rank} and {} on rank 0; use the same d"),
    "dtype": (DtypeError, "outputs are {} on rank {rank} and {} on rank 0; convert them"),
    "batch": (ShapeError, f"there are {{}} queries on rank {{rank}} and {{}} on rank 0; {_GATHER}"),
    "digest": (
        InputError,
        "queries, targets, weights or directions on rank {rank} are not those on rank 0, bit for "
        f"bit; {_GATHER}",
    ),
    "backend": (
        BackendError,
        "backend is {!r} on rank {rank} and {!r} on rank 0; name one by backend=",
    ),
    "tracked": (
        InputError,
        "whether queries or outputs require a gradient is {} on rank {rank} and {} on rank 0; let "
        "them require it on every rank, or on none",
    ),
}
_NAMES: dict[str, Callable[[int], object]] = {
    "dtype": FLOATS.__getitem__,
    "backend": BACKENDS.__getitem__,
    "tracked": bool,
}


def _check_agreement(headers: list[Header]) -> None:
    """Raise the same error on every rank unless their arguments are valid and fit together."""
    for rank, header in enumerate(headers):
        if not header.valid:
            raise InputError(
                f"rank {rank} of the group has invalid arguments; its error says which"
            )
    for field, (error, text) in _DIFFERENCES.items():
        name, zero = _NAMES.get(field, int), getattr(headers[0], field)
        for rank, header in enumerate(headers):
            value = getattr(header, field)
            if value != zero:
                raise error(text.format(name(value), name(zero), rank=rank))
    items = sum(header.items for header in headers)
    if items == 0:
        raise ShapeError("outputs (N, d) must have an item, and no rank of the group has any")
    for rank, header in enumerate(headers):
        if header.total not in (NO_SIZE, items):
            raise ShapeError(
                f"outputs are a DTensor of {header.total} items on rank {rank} of the group, and "
                f"their shards have {items}: pass shape= and stride= to DTensor.from_local"
            )


def _without_ignored(
    arguments: Arguments,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Queries, targets, weights and directions, with zeros for ignored queries."""
    queries, _, targets, weights, directions, index, *_ = arguments
    targets = targets.long()
    if index is not None:
        ignored = targets == index
        queries, targets = queries.masked_fill(ignored[:, None], 0), targets.masked_fill(ignored, 0)
        weights = None if weights is None else weights.masked_fill(ignored, 0)
    return queries, targets, weights, directions


def _digest(arguments: Arguments) -> Tensor:
    """An integer from the bits of all arguments but the outputs, by their place in rows."""
    digest = torch.zeros((), dtype=torch.int64, device=arguments.queries.device)
    for tensor in filter(torch.is_tensor, _without_ignored(arguments)):
        rows = tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()])
        parts = in_parts(rows.flatten(1) if rows.ndim > 1 else rows[:, None])
        sums = torch.cat([part.sum(1, dtype=torch.int64) for part in parts])
        places = torch.arange(1, len(sums) + 1, device=sums.device)
        digest = 31 * digest + (sums * places).sum()
    return digest
