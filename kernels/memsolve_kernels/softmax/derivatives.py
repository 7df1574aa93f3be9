"""The passes over the items as differentiable functions: twice by the queries, once by the outputs.

Backward and forward mode, and the transforms of `torch.func`, use the `Function`s here.
`torch.compile` does not trace a function with a `jvp`, so that it gets the operator itself, with
the same `backward`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import Function, forward_ad

from memsolve_kernels.softmax.ops import (
    run,
    softmax_covariance,
    softmax_odds,
    softmax_outputs,
    softmax_rank,
)

TWICE = (
    "the softmax loss is differentiable twice by the queries, of which once in forward mode: "
    "a further derivative is not supported"
)
ONCE = (
    "the gradient of the softmax loss by the queries is not differentiable by the outputs: "
    "pass outputs.detach() to take it"
)
BY_OUTPUTS = (
    "the gradient of the softmax loss by the outputs is not differentiable: pass outputs.detach() "
    "to take a second derivative"
)
FORWARD_TWICE = (
    "forward mode over forward mode is not supported by the softmax loss: use it over backward "
    "mode, as torch.func.jacfwd(torch.func.jacrev(...))"
)
BY_QUERIES = (
    "forward mode differentiates the softmax loss by the queries only, and the outputs have a "
    "tangent: use backward mode, or torch.func.jvp of a function of the queries"
)
COMPILED = (
    "forward mode inside torch.compile is not supported by the softmax loss: compile without "
    "fullgraph=True, or use backward mode"
)


def odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: str | None, precision: str | None
) -> tuple[Tensor, Tensor]:
    """Differentiable log-odds and their gradient by the queries (the difference)."""
    inputs = queries, outputs, targets, backend, precision
    log_odds, difference, others = _run(_Odds, partial(run, softmax_odds), *inputs)
    if torch.is_grad_enabled() and _is_differentiated(outputs):
        by_outputs = outputs, queries, targets, others, backend, precision
        log_odds = log_odds + _apply(
            _OutputsTransformed if _transforms() else _Outputs, *by_outputs
        )
    return log_odds, difference


def log_odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: str | None, precision: str | None
) -> Tensor:
    """The log-odds only, at half the cost of `odds` if no derivative is needed."""
    inputs = queries, outputs, targets, backend, precision
    tracked = queries.requires_grad or outputs.requires_grad
    if torch.is_grad_enabled() and (tracked or TransformType.Grad in _transforms()):
        return odds(*inputs)[0]
    result: Tensor = _run(_LogOdds, lambda *args: run(softmax_rank, *args)[0], *inputs)
    return result


def refuse(tensor: Tensor, why: str, *by: Tensor) -> Tensor:
    """The tensor; differentiation by it, or by others (`by`), raises NotImplementedError."""
    guarded: Tensor = _run(_Refuse, lambda tensor, *_: tensor, tensor, why, *by)
    return guarded


def _covariance(queries: Tensor, directions: Tensor, *others: Any) -> Tensor:
    """`softmax_covariance`, differentiable by the directions."""
    outputs, targets, log_odds, difference, *options = others
    constants = log_odds.detach(), difference.detach()  # functions of the queries, refused above
    inputs = (
        refuse(queries, TWICE), directions, refuse(outputs, ONCE), targets, *constants, *options
    )  # fmt: skip
    product: Tensor = _run(_Covariance, partial(run, softmax_covariance), *inputs)
    return product


def _run(function: type[Function], operator: Callable[..., Any], *inputs: Any) -> Any:
    if torch.compiler.is_compiling():
        from memsolve_kernels.compiler import is_forward_mode

        if is_forward_mode():
            raise NotImplementedError(COMPILED)
        return operator(*inputs)
    if not _is_differentiated(*inputs):
        return operator(*inputs)
    if _transforms().count(TransformType.Jvp) > 1:
        raise NotImplementedError(FORWARD_TWICE)
    return _apply(function, *inputs)


def _transforms() -> list[TransformType]:
    """The active transforms of `torch.func`, outermost first."""
    if torch.compiler.is_compiling():
        return []
    return [each.key() for each in get_interpreter_stack() or []]


def _is_differentiated(*inputs: Any) -> bool:
    """Whether autograd, forward mode or a transform of `torch.func` is active."""
    if not torch.compiler.is_compiling() and (forward_ad._current_level >= 0 or _transforms()):
        return True
    return torch.is_grad_enabled() and any(
        isinstance(each, Tensor) and each.requires_grad for each in inputs
    )


def _apply(function: type[Function], *inputs: Any) -> Any:
    return function.apply(*inputs)


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
            if torch.is_grad_enabled() and _is_differentiated(outputs):
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
        directions = _queries_tangent(tangents)
        product = _covariance(
            queries, directions, outputs, targets, log_odds, difference, ctx.backend, ctx.precision
        )
        return (
            (directions * difference).sum(1),
            product,
            directions.new_zeros(directions.shape[0], 2),
        )


class _Outputs(Function):
    """Zeros that are added to the log-odds, and carry their derivative by the outputs.

    A separate node, so that its second pass over the items runs only if the outputs' gradient is
    needed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        others: Tensor = args[3]
        return others.new_zeros(others.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.backend, ctx.precision = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:  # a transform by the queries only
            return _zeros(ctx.saved_tensors[0]), *[None] * 5
        outputs, queries, targets, others = ctx.saved_tensors
        inputs = queries, outputs, targets, others, by[0], ctx.backend, ctx.precision
        with torch.no_grad():
            gradient = run(softmax_outputs, *inputs)
        return refuse(gradient, BY_OUTPUTS, outputs, queries, by[0]), *[None] * 5


class _OutputsTransformed(_Outputs):
    """The same for transforms, which need a `jvp` even if only the queries have a tangent."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _Outputs.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[3])
        ctx.set_materialize_grads(False)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        if tangents[0] is not None:
            raise NotImplementedError(BY_QUERIES)
        others: Tensor = ctx.saved_tensors[0]
        return others.new_zeros(others.shape[0])


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
        return (_queries_tangent(tangents) * difference).sum(1)


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
        return _zeros(queries), product.to(ctx.dtype), _zeros(others[0]), *[None] * 5

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        queries, *others = ctx.saved_tensors
        return _covariance(queries, tangents[1], *others, ctx.backend, ctx.precision)


class _Refuse(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, why: str, *by: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.why = inputs[1]

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None]:
        raise NotImplementedError(ctx.why)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(ctx.why)


def _zeros(like: Tensor) -> Tensor:
    """Zeros of the same shape, in the memory of one element."""
    return like.new_zeros(()).expand_as(like)


def _queries_tangent(tangents: tuple[Any, ...]) -> Tensor:
    queries: Tensor | None = tangents[0]
    if queries is None or tangents[1] is not None:
        raise NotImplementedError(BY_QUERIES)
    return queries


softmax_odds.register_autograd(_Odds.backward, setup_context=_Odds.setup_context)
