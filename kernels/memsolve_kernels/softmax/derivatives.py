"""The passes over the items as functions that are differentiable twice by the queries.

For the derivative by the outputs see `outputs_derivative.py`.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch.autograd import Function

from memsolve_kernels.modes import is_differentiated, transforms
from memsolve_kernels.softmax.differentiation import (
    expand_zero,
    queries_tangent,
    refuse,
    run_function,
)
from memsolve_kernels.softmax.ops import (
    run,
    softmax_covariance,
    softmax_odds,
    softmax_rank,
)
from memsolve_kernels.softmax.outputs_derivative import output_terms
from memsolve_kernels.softmax.partials import Bias

TWICE = (
    "the softmax loss is differentiable twice by the queries, of which once in forward mode: "
    "a further derivative is not supported"
)
ONCE = (
    "the gradient of the softmax loss by the queries is not differentiable by the outputs: "
    "pass outputs.detach() to take it"
)


def odds(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    backend: str | None,
    precision: str | None,
    bias: Bias | None = None,
) -> tuple[Tensor, Tensor]:
    """Differentiable log-odds and their gradient by the queries (the difference)."""
    options = backend, precision
    log_odds, difference, others = odds_by_queries(queries, outputs, targets, *options)
    terms = output_terms(queries, outputs, targets, others, options, bias=bias)
    return log_odds if terms is None else log_odds + terms.log_odds, difference


def odds_by_queries(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The results of `softmax_odds`, differentiable by the queries only."""
    results: tuple[Tensor, Tensor, Tensor] = run_function(
        _Odds, partial(run, softmax_odds), *inputs
    )
    return results


def log_odds(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    backend: str | None,
    precision: str | None,
    bias: Bias | None = None,
) -> Tensor:
    """The log-odds only, at half the cost of `odds` if no derivative is needed."""
    inputs = queries, outputs, targets, backend, precision
    if is_tracked(queries, outputs):
        return odds(*inputs, bias)[0]
    result: Tensor = run_function(_LogOdds, lambda *args: run(softmax_rank, *args)[0], *inputs)
    return result


def is_tracked(queries: Tensor, outputs: Tensor) -> bool:
    """Whether a gradient by queries or outputs will be needed in backward mode."""
    tracked = queries.requires_grad or outputs.requires_grad
    return torch.is_grad_enabled() and (tracked or TransformType.Grad in transforms())


def _covariance(queries: Tensor, directions: Tensor, *others: Any) -> Tensor:
    """`softmax_covariance`, differentiable by the directions."""
    outputs, targets, log_odds, difference, *options = others
    constants = log_odds.detach(), difference.detach()  # functions of the queries, refused above
    inputs = (
        refuse(queries, TWICE), directions, refuse(outputs, ONCE), targets, *constants, *options
    )  # fmt: skip
    product: Tensor = run_function(_Covariance, partial(run, softmax_covariance), *inputs)
    return product


class _Odds(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        log_odds, difference, others = run(softmax_odds, *args)
        return log_odds, difference, others

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        queries, outputs, targets, ctx.backend, ctx.precision = inputs
        ctx.save_for_backward(queries, outputs, targets, *output[:2])
        ctx.save_for_forward(queries, outputs, targets, *output[:2])
        ctx.set_materialize_grads(False)  # the gradient by log-odds needs no second pass

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, ...]:
        by_log_odds, by_difference, _ = by
        queries, outputs, targets, log_odds, difference = ctx.saved_tensors
        gradient: Tensor | None = None
        if by_log_odds is not None:
            if torch.is_grad_enabled() and is_differentiated(outputs):
                refused = refuse(outputs, ONCE)
                difference = difference + 0 * (refused[0] if outputs.shape[0] else refused.sum())
            gradient = by_log_odds[:, None] * difference
        if by_difference is not None:
            product = _covariance(
                queries, by_difference, outputs, targets, log_odds, difference,
                ctx.backend, ctx.precision,
            )  # fmt: skip
            gradient = product if gradient is None else gradient + product
        return None if gradient is None else gradient.to(queries.dtype), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        queries, outputs, targets, log_odds, difference = ctx.saved_tensors
        directions = queries_tangent(tangents)
        product = _covariance(
            queries, directions, outputs, targets, log_odds, difference, ctx.backend, ctx.precision
        )
        return (
            (directions * difference).sum(1),
            product,
            directions.new_zeros(directions.shape[0], 2),
        )


class _LogOdds(Function):
    """For queries that do not require a gradient, which a transform may still differentiate."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        log_odds: Tensor = run(softmax_rank, *args)[0]
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
        return (queries_tangent(tangents) * difference).sum(1)


class _Covariance(Function):
    """Linear in the directions and symmetric, hence its own derivative by them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        product: Tensor = run(softmax_covariance, *args)
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
        return expand_zero(queries), product.to(ctx.dtype), expand_zero(others[0]), *[None] * 5

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        queries, *others = ctx.saved_tensors
        return _covariance(queries, tangents[1], *others, ctx.backend, ctx.precision)


softmax_odds.register_autograd(_Odds.backward, setup_context=_Odds.setup_context)
