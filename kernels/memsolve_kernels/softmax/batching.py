"""Rules of `torch.vmap` for the operators: rows are independent, so that calls form one batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Rule = Callable[..., tuple[Any, Any]]


def by_rows(run: Callable[..., Any], outputs_at: int) -> Rule:
    """The rule of an operator all of whose tensors, except the outputs, have a row for each query.

    If the outputs are mapped as well, calls run one after the other.
    """

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        size: int = info.batch_size
        if in_dims[outputs_at] is not None:
            return one_by_one(run)(info, in_dims, *args)
        rows = [
            arg
            if at == outputs_at or not isinstance(arg, Tensor)
            else _rows(arg, in_dims[at], size)
            for at, arg in enumerate(args)
        ]
        return _each(lambda result: result.unflatten(0, (size, -1)), run(*rows))

    return rule


def one_by_one(run: Callable[..., Any]) -> Rule:
    """The rule of any operator: calls run one after the other."""

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        calls = [run(*_pick(args, in_dims, index)) for index in range(info.batch_size)]
        return _each(lambda *results: torch.stack(results), *calls)

    return rule


def _pick(args: Sequence[Any], dims: Sequence[int | None], index: int) -> list[Any]:
    """The arguments of one of the mapped calls."""
    pairs = zip(args, dims, strict=True)
    return [arg if dim is None else arg.select(dim, index) for arg, dim in pairs]


def _rows(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """The rows of all calls, one call after the other."""
    calls = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return calls.flatten(0, 1)


def _each(change: Callable[..., Tensor], *calls: Any) -> tuple[Any, Any]:
    """Apply `change` to the result of an operator, one tensor or several; with its out_dims."""
    if isinstance(calls[0], Tensor):
        return change(*calls), 0
    return tuple(map(change, *calls)), (0,) * len(calls[0])
