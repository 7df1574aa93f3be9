"""The passes over the items as differentiable functions: twice by the queries, once by the outputs.

Backward and forward mode, and the transforms of `torch.func`, go through the `Function`s here.
`torch.compile` traces no function that has a `jvp`, so that it gets the operator itself, with the
same `backward`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.autograd.function import once_differentiable

from memsolve_kernels.softmax.ops import (
    softmax_covariance,
    softmax_odds,
    softmax_outputs,
    softmax_rank,
)

TWICE = (
    "the softmax loss is differentiable twice by the queries, of which once in forward mode: "
    "a further derivative is not offered"
)
ONCE = (
    "the gradient of the softmax loss by the queries is not differentiable by the outputs: "
    "pass outputs.detach() where that is taken"
)


def odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: str | None, precision: str | None
) -> tuple[Tensor, Tensor]:
    """`softmax_odds`, whose difference is the derivative of its log-odds, and differentiable."""
    inputs = queries, outputs, targets, backend, precision
    log_odds, difference = _run(_Odds, softmax_odds, *inputs)
    if torch.is_grad_enabled() and outputs.requires_grad:
        by_outputs = outputs, queries, targets, log_odds, backend, precision
        log_odds = log_odds + _apply(_Outputs, *by_outputs)
    return log_odds, difference


def log_odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: str | None, precision: str | None
) -> Tensor:
    """The log-odds alone, at half the cost of `odds` where no derivative is asked for."""
    inputs = queries, outputs, targets, backend, precision
    if torch.is_grad_enabled() and (queries.requires_grad or outputs.requires_grad):
        return odds(*inputs)[0]
    result: Tensor = _run(_LogOdds, lambda *args: softmax_rank(*args)[0], *inputs)
    return result


def refuse(tensor: Tensor, why: str) -> Tensor:
    """The tensor, by which whoever differentiates gets NotImplementedError instead of zero."""
    guarded: Tensor = _run(_Refuse, lambda tensor, _: tensor, tensor, why)
    return guarded


def _covariance(queries: Tensor, directions: Tensor, *others: Any) -> Tensor:
    """`softmax_covariance`, differentiable by the directions."""
    outputs, targets, log_odds, difference, *choice = others
    known = log_odds.detach(), difference.detach()  # their derivatives go by way of the queries
    inputs = refuse(queries, TWICE), directions, outputs, targets, *known, *choice
    product: Tensor = _run(_Covariance, softmax_covariance, *inputs)
    return product


def _run(function: type[Function], operator: Callable[..., Any], *inputs: Any) -> Any:
    if torch.compiler.is_compiling() or not _is_differentiated(*inputs):
        return operator(*inputs)
    return _apply(function, *inputs)


def _is_differentiated(*inputs: Any) -> bool:
    """Whether autograd, forward mode or a transform of `torch.func` looks on."""
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return True
    return torch.is_grad_enabled() and any(
        isinstance(each, Tensor) and each.requires_grad for each in inputs
    )


def _apply(function: type[Function], *inputs: Any) -> Any:
    return function.apply(*inputs)


class _Odds(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        log_odds, difference = softmax_odds(*args)
        return log_odds, difference

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        queries, outputs, targets, ctx.backend, ctx.precision = inputs
        ctx.save_for_backward(queries, outputs, targets, *output)
        ctx.save_for_forward(queries, outputs, targets, *output)
        ctx.set_materialize_grads(False)  # the gradient alone needs no second pass over the items

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, ...]:
        by_log_odds, by_difference = by
        queries, outputs, targets, log_odds, difference = ctx.saved_tensors
        gradient: Tensor | None = None
        if by_log_odds is not None:
            if torch.is_grad_enabled() and outputs.requires_grad:
                difference = difference + 0 * refuse(outputs, ONCE)[0]
            gradient = by_log_odds[:, None] * difference
        if by_difference is not None:
            product = _covariance(
                queries, by_difference, outputs, targets, log_odds, difference,
                ctx.backend, ctx.precision,
            )  # fmt: skip
            gradient = product if gradient is None else gradient + product
        return None if gradient is None else gradient.to(queries.dtype), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, Tensor]:
        queries, outputs, targets, log_odds, difference = ctx.saved_tensors
        directions = _of_queries(tangents)
        product = _covariance(
            queries, directions, outputs, targets, log_odds, difference, ctx.backend, ctx.precision
        )
        return (directions * difference).sum(1), product


class _Outputs(Function):
    """Zeros to be added to the log-odds, from which their derivative by the outputs comes.

    A node of its own, whose second pass over the items runs only where the outputs' gradient is
    asked for.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        return torch.zeros_like(args[3])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.backend, ctx.precision = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        outputs, queries, targets, log_odds = ctx.saved_tensors
        inputs = queries, outputs, targets, log_odds, by[0], ctx.backend, ctx.precision
        return softmax_outputs(*inputs).to(outputs.dtype), *[None] * 5


class _LogOdds(Function):
    """Of queries that seem to need no derivative, which a transform may ask for all the same."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        log_odds: Tensor = softmax_rank(*args)[0]
        return log_odds

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        queries, outputs, targets, ctx.backend, ctx.precision = inputs
        ctx.save_for_backward(queries, outputs, targets)
        ctx.save_for_forward(queries, outputs, targets)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        queries, outputs, targets = ctx.saved_tensors
        _, difference = odds(queries, outputs, targets, ctx.backend, ctx.precision)
        return (by[0][:, None] * difference).to(queries.dtype), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        queries, outputs, targets = ctx.saved_tensors
        _, difference = odds(queries, outputs, targets, ctx.backend, ctx.precision)
        return (_of_queries(tangents) * difference).sum(1)


class _Covariance(Function):
    """Linear in the directions and symmetric, so that it is its own derivative by them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        product: Tensor = softmax_covariance(*args)
        return product

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        queries, directions, *others, ctx.backend, ctx.precision = inputs
        ctx.dtype = directions.dtype
        ctx.save_for_backward(queries, *others)
        ctx.save_for_forward(queries, *others)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        queries, *others = ctx.saved_tensors
        product = _covariance(queries, by[0], *others, ctx.backend, ctx.precision)
        return torch.zeros_like(queries), product.to(ctx.dtype), *[None] * 6  # zeros: is refused

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        queries, *others = ctx.saved_tensors
        return _covariance(queries, tangents[1], *others, ctx.backend, ctx.precision)


class _Refuse(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, why: str) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        _, ctx.why = inputs

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None]:
        raise NotImplementedError(ctx.why)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(ctx.why)


def _of_queries(tangents: tuple[Any, ...]) -> Tensor:
    queries: Tensor | None = tangents[0]
    if queries is None or tangents[1] is not None:
        raise NotImplementedError(
            "forward mode differentiates the softmax loss by the queries alone, and the outputs "
            "have a tangent: take backward mode, or torch.func.jvp of a function of the queries"
        )
    return queries


softmax_odds.register_autograd(_Odds.backward, setup_context=_Odds.setup_context)
