"""What the ranks of a group exchange before a pass over sharded outputs, and check together.

The sizes of the shards go with all that has to be equal or valid on every rank, so that a wrong
argument of one rank raises on each, and none waits for another.
"""

from collections.abc import Callable
from typing import NamedTuple, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.errors import BackendError, DtypeError, InputError, ShapeError
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.checks import Arguments, check_all_items, check_values
from memsolve_kernels.softmax.digest import digest
from memsolve_kernels.softmax.interface import SoftmaxBackend
from memsolve_kernels.softmax.placement import NO_SIZE, to_local
from memsolve_kernels.softmax.tensor_checks import FLOATS, check_finite

INVALID = -1
Failure = tuple[type[Exception], str]
CALLS = (
    "softmax_loss",
    "softmax_loss(reduction='none')",
    "softmax_gradient",
    "softmax_hvp",
    "retrieval",
    "softmax_statistics",
)
BACKENDS = ("reference", "torch", "triton")
PRECISIONS = (None, *get_args(Precision))


class Agreement(NamedTuple):
    """What a rank needs for its passes.

    Attributes:
        arguments: of the call, with its shards of outputs and bias.
        backend: of its passes.
        first: number of its first item.
        num_items: of all ranks.
    """

    arguments: Arguments
    backend: SoftmaxBackend
    first: int
    num_items: int


class Header(NamedTuple):
    """What a rank sends to the others before a pass, as integers.

    Attributes:
        call: the function, by its place in `CALLS`, or `INVALID` if its arguments are.
        items: in its shard.
        total: items of the DTensor that its shard belongs to, or `NO_SIZE`.
        dim: d.
        dtype: of the outputs, by its place in `FLOATS`.
        batch: queries.
        backend: by its place in `BACKENDS`.
        precision: by its place in `PRECISIONS`.
        tracked: whether queries, outputs or options need a gradient.
        digest: of the bits of all arguments but the outputs.
    """

    call: int = INVALID
    items: int = 0
    total: int = NO_SIZE
    dim: int = 0
    dtype: int = 0
    batch: int = 0
    backend: int = 0
    precision: int = 0
    tracked: int = 0
    digest: int = 0


def agree(
    arguments: Arguments, group: dist.ProcessGroup | None, ranks: dist.ProcessGroup
) -> Agreement:
    """Check the arguments of all ranks, together.

    Args:
        arguments: of this rank.
        group: as given, None for a DTensor.
        ranks: the group, whose order is that of the shards.

    Raises:
        Exception: what is invalid on this rank; else, of the first rank with invalid arguments, an
            error of the same class if it is an InputError, or RuntimeError.
        InputError: a subclass, on every rank: arguments that differ, or that are invalid together.
    """
    try:
        arguments, total = to_local(arguments, group, min_items=0)
        backend, header = _describe(arguments, total)
        kept, ignored = _without_ignored(arguments)
        options = [each.to(kept.queries.device) for each in arguments.options.shared_bits]
        tensors = kept.queries, kept.targets, ignored, kept.weights, kept.directions
        own = digest((*tensors, *options))
    except Exception as error:
        _send(error, arguments, ranks)
        raise
    headers = _gather(header, own, ranks)
    if any(each.call == INVALID for each in headers):
        raise _error_of(_gather_errors(None, ranks))
    _check_agreement(headers)
    num_items = sum(each.items for each in headers)
    check_all_items(arguments, num_items)
    finite = {"queries": kept.queries}
    if kept.directions is not None:
        finite["directions"] = kept.directions
    check_values(kept.targets, num_items, wait=backend.indexes_targets, **finite)
    first = sum(each.items for each in headers[: ranks.rank()])
    return Agreement(arguments, backend, first, num_items)


def _describe(arguments: Arguments, total: int) -> tuple[SoftmaxBackend, Header]:
    """The backend of valid arguments, and what the other ranks have to know."""
    function, queries, outputs, *_ = arguments
    check_finite(outputs=outputs)
    backend = select_backend(queries, arguments.backend, arguments.precision)
    differentiated = queries, outputs, *arguments.options.tensors.values()
    tracked = torch.is_grad_enabled() and any(each.requires_grad for each in differentiated)
    unreduced = "(reduction='none')" if arguments.reduction == "none" else ""
    return backend, Header(
        call=CALLS.index(function + unreduced),
        items=outputs.shape[0],
        total=total,
        dim=outputs.shape[1],
        dtype=FLOATS.index(outputs.dtype),
        batch=queries.shape[0],
        backend=BACKENDS.index(backend.name),
        precision=PRECISIONS.index(arguments.precision),
        tracked=int(tracked),
    )


def _device(arguments: Arguments) -> torch.device | None:
    """The device of a tensor with values, however invalid the arguments are."""
    tensors = (each for each in (arguments.outputs, arguments.queries) if torch.is_tensor(each))
    return next((each.device for each in tensors if not each.is_meta), None)


def _gather(header: Header, bits: Tensor, ranks: dist.ProcessGroup) -> list[Header]:
    """The headers of all ranks: one collective of a few integers, whose result is read."""
    own = torch.tensor(header, dtype=torch.int64, device=bits.device)
    own[-1] = bits
    gathered = own.new_empty(ranks.size(), len(header))
    dist.all_gather(list(gathered), own, group=ranks)
    return [Header(*row) for row in gathered.tolist()]


def _send(error: Exception, arguments: Arguments, ranks: dist.ProcessGroup) -> None:
    """Send an error of this rank to the others, unless its call is recorded and not run."""
    tensors = (*arguments, *arguments.options.tensors.values())
    if torch.compiler.is_compiling() or any(isinstance(each, FakeTensor) for each in tensors):
        return
    with temporarily_clear_interpreter_stack():  # of `torch.func`
        _gather(Header(), torch.zeros((), dtype=torch.int64, device=_device(arguments)), ranks)
        _gather_errors(error, ranks)


def _gather_errors(error: Exception | None, ranks: dist.ProcessGroup) -> list[Failure | None]:
    """The class and the message of each rank's error, as the others raise it."""
    own: Failure | None = None
    if isinstance(error, InputError):
        own = type(error), str(error)
    elif error is not None:
        own = RuntimeError, f"{type(error).__name__}: {error}"
    errors: list[Failure | None] = [None] * ranks.size()
    dist.all_gather_object(errors, own, group=ranks)
    return errors


def _error_of(errors: list[Failure | None]) -> Exception:
    """The error on ranks that have none of their own."""
    rank, error = next((rank, each) for rank, each in enumerate(errors) if each is not None)
    return error[0](f"rank {rank} of the group raised: {error[1]}")


_GATHER = "every rank must pass the same ones: gather the batches of all ranks"
_DIFFERENCES: dict[str, tuple[type[InputError], str]] = {
    "call": (
        InputError,
        "rank {rank} calls {} and rank 0 calls {}; call the same function on every rank",
    ),
    "dim": (ShapeError, "outputs have d = {} on rank {rank} and {} on rank 0; use the same d"),
    "dtype": (DtypeError, "outputs are {} on rank {rank} and {} on rank 0; convert them"),
    "batch": (ShapeError, f"there are {{}} queries on rank {{rank}} and {{}} on rank 0; {_GATHER}"),
    "digest": (
        InputError,
        "queries, targets, ignore_index, weights, directions or options of the loss on rank "
        f"{{rank}} are not those on rank 0, bit for bit; {_GATHER}",
    ),
    "backend": (
        BackendError,
        "backend is {!r} on rank {rank} and {!r} on rank 0; name one by backend=",
    ),
    "precision": (
        BackendError,
        "precision is {!r} on rank {rank} and {!r} on rank 0; pass the same on every rank",
    ),
    "tracked": (
        InputError,
        "whether queries, outputs, bias or temperature require a gradient is {} on rank {rank} and "
        "{} on rank 0; let them require it on every rank, or on none",
    ),
}
_NAMES: dict[str, Callable[[int], object]] = {
    "call": CALLS.__getitem__,
    "dtype": FLOATS.__getitem__,
    "backend": BACKENDS.__getitem__,
    "precision": PRECISIONS.__getitem__,
    "tracked": bool,
}


def _check_agreement(headers: list[Header]) -> None:
    """Raise the same error on every rank unless their arguments fit together."""
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


def _without_ignored(arguments: Arguments) -> tuple[Arguments, Tensor | None]:
    """Arguments with targets in int64, and zeros for ignored queries; which those are (B,)."""
    targets, index, weights = arguments.targets.long(), arguments.ignore_index, arguments.weights
    if index is None:
        return arguments._replace(targets=targets), None
    ignored = targets == index
    return arguments._replace(
        queries=arguments.queries.masked_fill(ignored[:, None], 0),
        targets=targets.masked_fill(ignored, 0),
        weights=None if weights is None else weights.masked_fill(ignored, 0),
    ), ignored
