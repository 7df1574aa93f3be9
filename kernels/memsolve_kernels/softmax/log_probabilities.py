"""Log-probabilities of several given items of each query, as for a policy gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.errors import DtypeError, InputError, RangeError, ShapeError
from memsolve_kernels.modes import apply, is_distributed, is_readable
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.checks import Arguments
from memsolve_kernels.softmax.losses import query_losses
from memsolve_kernels.softmax.options import LossOptions
from memsolve_kernels.softmax.partials import accumulation_dtype
from memsolve_kernels.softmax.preparation import Call, prepare
from memsolve_kernels.softmax.rows import own_outputs, row_dot
from memsolve_kernels.softmax.tensor_checks import (
    INTEGERS,
    check_dense,
    check_device,
    check_dtype,
)


def log_probabilities(
    queries: Tensor,
    outputs: Tensor,
    ids: Tensor,
    log_partition: Tensor | None = None,
    *,
    temperature: float | Tensor | None = None,
    bias: Tensor | None = None,
    backend: BackendName | None = None,
    precision: Precision | None = None,
) -> Tensor:
    """Log-probabilities of given items under each query's softmax, differentiable as a loss is.

    Derivatives are those of backward mode, which `torch.func` has too, and not of forward mode.

    They keep their relative accuracy also where one of a query's items has nearly all the
    probability, if there is no `log_partition`.

    Args:
        queries: (..., d), as for `softmax_loss`.
        outputs: (N, d).
        ids: (..., k), integers in [0, N), k >= 1.
        log_partition: (...), of `softmax_statistics` for the same arguments, in place of a pass
            over the items, in float64 or the dtype of queries or sums; differentiable.
        temperature: as for `softmax_loss`.
        bias: as for `softmax_loss`.
        backend: as for `softmax_loss`.
        precision: as for `softmax_loss`.

    Returns:
        (..., k), in float32, or float64 for float64 inputs.

    Raises:
        InputError: a subclass, with the invalid argument and the reason.
    """
    _check_ids(queries, outputs, ids, log_partition)
    batch = ids.shape[:-1].numel()
    rows = queries.reshape(batch, queries.shape[-1])
    row_ids = ids.reshape(batch, ids.shape[-1]).long()
    options = LossOptions(temperature=temperature, bias=bias)
    arguments = Arguments(
        "log_probabilities", rows, outputs, row_ids[:, 0], reduction="none", options=options
    )
    call = prepare(arguments._replace(backend=backend, precision=precision), None)
    if not (log_partition is None or torch.compiler.is_compiling()):
        select_backend(call.queries, call.backend, call.precision)  # as a pass would
    bias, column = (None, None) if call.bias is None else call.bias
    logits: Tensor = apply(_Logits, call.queries, call.outputs, row_ids, bias, column)
    if log_partition is not None:
        relative = logits - log_partition.reshape(-1, 1)
        return relative.to(logits.dtype).view(ids.shape)
    return _relative_to_best(call, logits, row_ids).view(ids.shape)


def _relative_to_best(call: Call, logits: Tensor, ids: Tensor) -> Tensor:
    """By the loss of each query's best item, which nothing cancels, and the gaps to that one."""
    best = logits.detach().argmax(1, keepdim=True)
    loss = query_losses(call._replace(targets=ids.gather(1, best)[:, 0])).loss
    return logits - logits.gather(1, best) - loss[:, None]


class _Logits(Function):
    """The logits (B, k) of items (B, k), one column at a time.

    The gradient by a bias is not rounded to the dtype of the outputs that hold it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(queries: Tensor, outputs: Tensor, ids: Tensor, *bias: Any) -> Tensor:
        columns = [row_dot(queries, own_outputs(outputs, column)) for column in ids.unbind(1)]
        return torch.stack(columns, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, bias, ctx.bias_column = inputs
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, by: Tensor) -> tuple[Tensor | None, ...]:
        queries, outputs, ids = ctx.saved_tensors
        dtype = accumulation_dtype(queries.dtype)
        by_queries = by_outputs = by_bias = None
        if ctx.needs_input_grad[0]:
            total = torch.zeros_like(queries, dtype=dtype)
            for column, weight in zip(ids.unbind(1), by.unbind(1), strict=True):
                total = total + weight[:, None] * own_outputs(outputs, column)
            by_queries = total.to(queries.dtype)
        if ctx.needs_input_grad[1]:
            total = torch.zeros_like(outputs, dtype=dtype)
            for column, weight in zip(ids.unbind(1), by.unbind(1), strict=True):
                inside = column.clamp(0, outputs.shape[0] - 1)
                total = total.index_put((inside,), weight[:, None] * queries, accumulate=True)
            if ctx.bias_column is not None:
                by_bias = total[:, ctx.bias_column].to(ctx.bias_dtype)
                bias = torch.arange(total.shape[1], device=total.device) >= ctx.bias_column
                total = total.masked_fill(bias, 0)
            by_outputs = total.to(outputs.dtype)
        return by_queries, by_outputs, None, by_bias, None


def _check_ids(queries: Tensor, outputs: Tensor, ids: Tensor, log_partition: Tensor | None) -> None:
    if is_distributed(outputs):
        raise InputError(
            "log_probabilities takes no outputs that are sharded over ranks: use softmax_loss with "
            "reduction='none', whose result is minus the log-probability of one item of a query"
        )
    check_dense(queries=queries, ids=ids)
    if ids.ndim < 2 or ids.shape[:-1] != queries.shape[:-1] or ids.shape[-1] == 0:
        raise ShapeError(
            f"ids {tuple(ids.shape)} must have the dimensions of queries {tuple(queries.shape)}, "
            "with one or more items in place of the last: (..., k) for (..., d)"
        )
    if ids.dtype not in INTEGERS:
        raise DtypeError(f"ids must be integers, got {ids.dtype}")
    if log_partition is not None:
        _check_log_partition(log_partition, queries)
    if is_readable(ids) and ids.numel() and isinstance(outputs, Tensor):
        smallest, largest = map(int, ids.aminmax())
        if smallest < 0 or largest >= outputs.shape[0]:
            wrong = smallest if smallest < 0 else largest
            raise RangeError(f"ids holds {wrong}; expected items in [0, {outputs.shape[0]})")


def _check_log_partition(log_partition: Tensor, queries: Tensor) -> None:
    check_dense(log_partition=log_partition)
    if log_partition.shape != queries.shape[:-1]:
        raise ShapeError(
            f"log_partition {tuple(log_partition.shape)} must hold one number for each of the "
            f"queries {tuple(queries.shape)}"
        )
    if log_partition.dtype != torch.float64:
        check_dtype(queries, log_partition=log_partition)
    check_device(queries, log_partition=log_partition)
