"""The derivative by the outputs of everything that the softmax functions compute of a query.

One second pass over the items serves all of it: an item's gradient is the sum of the queries,
weighted by its share of the others' exponentials times a factor, plus a multiple of its logit for
the entropy; its own queries have a weight apart.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from memsolve_kernels.modes import apply, is_differentiated, needs_jvp
from memsolve_kernels.softmax.differentiation import BY_QUERIES, ENTROPY_ONCE, expand_zero, refuse
from memsolve_kernels.softmax.ops import run, softmax_entropy_gradients, softmax_outputs
from memsolve_kernels.softmax.partials import Bias, LogitWeights
from memsolve_kernels.softmax.rows import entropy_gradient, row_dot, weighted_sum

BY_OUTPUTS = (
    "the gradient of the softmax loss by the outputs is not differentiable: pass outputs.detach() "
    "to take a second derivative"
)


class EntropyContext(NamedTuple):
    """What the derivative of the entropies needs, as constants.

    Attributes:
        log_odds: (B,).
        difference: (B, d), their gradient.
        target_logit: (B,).
    """

    log_odds: Tensor
    difference: Tensor
    target_logit: Tensor


class OutputTerms(NamedTuple):
    """Zeros (B,) that carry the derivatives by the outputs of what they are added to."""

    log_odds: Tensor
    target_logit: Tensor
    mean_logit: Tensor
    entropy: Tensor


class _Inputs(NamedTuple):
    """Of `_Terms`, or a gradient by each; those that it saves for its pass are the first."""

    outputs: Any = None
    queries: Any = None
    targets: Any = None
    others: Any = None
    item_weights: Any = None
    log_odds: Any = None
    difference: Any = None
    target_logit: Any = None
    bias: Any = None
    bias_column: Any = None
    has_target: Any = None
    by_queries: Any = None
    backend: Any = None
    precision: Any = None


def output_terms(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    others: Tensor,
    options: tuple[str | None, str | None],
    *,
    has_target: bool = False,
    bias: Bias | None = None,
    item_weights: Tensor | None = None,
    entropy: EntropyContext | None = None,
    by_queries: bool = False,
) -> OutputTerms | None:
    """The terms, or None if nothing differentiates by the outputs.

    Args:
        queries: (B, d).
        outputs: (N, d), or this rank's.
        targets: (B,).
        others: (B, 2), of `softmax_odds`.
        options: backend and precision.
        has_target: whether the target's logit has a term; else it has no derivative.
        bias: among the outputs, whose gradient is that of `values`, in their dtype, and zero by
            the columns.
        item_weights: (N,), of the items in the mean logit, in the dtype of sums; without them it
            has no derivative.
        entropy: without it, the entropies have no derivative.
        by_queries: whether the entropies' term has its derivative by the queries too.
    """
    if not (torch.is_grad_enabled() and is_differentiated(outputs)):
        return None
    function = _TermsTransformed if needs_jvp() else _Terms
    context = (None, None, None) if entropy is None else entropy
    tensors = outputs, queries, targets, others, item_weights, *context
    of_bias: tuple[Any, ...] = (None, None)
    if bias is not None and is_differentiated(bias.values):
        of_bias = bias
    return OutputTerms(*apply(function, *tensors, *of_bias, has_target, by_queries, *options))


class _Terms(Function):
    """A separate node, so that its pass runs only if the outputs' gradient is needed."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        others: Tensor = _Inputs(*args).others
        return tuple(others.new_zeros(others.shape[0]) for _ in OutputTerms._fields)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *saved, bias, ctx.bias_column, ctx.has_target, ctx.by_queries = inputs[:-2]
        ctx.backend, ctx.precision = inputs[-2:]
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(*saved)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = _Inputs(*ctx.saved_tensors)  # once, since a checkpoint unpacks them once
        outputs, queries, item_weights = saved.outputs, saved.queries, saved.item_weights
        if not _Inputs(*ctx.needs_input_grad).outputs:  # a transform by the queries only
            return tuple(_Inputs(outputs=expand_zero(outputs)))
        by_odds, by_target, by_mean, by_entropy = by  # zeros for None under `torch.compile`
        by_queries: Tensor | None = None
        with torch.no_grad():
            weights = _weights(by_odds, by_target if ctx.has_target else None, saved.others)
            if by_entropy is None or saved.log_odds is None:
                gradient, by_bias = _by_outputs(ctx, saved, weights)
            else:
                weights = _weights_of_entropy(weights, by_entropy, saved)
                gradient, by_bias, by_queries = _by_both(ctx, saved, weights, by_entropy)
            if by_mean is not None and item_weights is not None:
                row = weighted_sum(by_mean, queries)
                if ctx.bias_column is not None:
                    by_bias.add_(item_weights * row[ctx.bias_column])
                gradient.addr_(item_weights.to(gradient.dtype), row.to(gradient.dtype))
            if ctx.bias_column is not None:
                gradient[:, ctx.bias_column :] = 0
        gradients = [each for each in by if each is not None]
        if by_queries is not None:
            by_queries = refuse(by_queries, ENTROPY_ONCE, outputs, queries, *gradients)
        gradient = refuse(gradient, BY_OUTPUTS, outputs, queries, *gradients)
        gradients_by = _Inputs(outputs=gradient, queries=by_queries)
        if ctx.bias_column is not None:
            by_bias = refuse(by_bias.to(ctx.bias_dtype), BY_OUTPUTS, outputs, queries, *gradients)
            gradients_by = gradients_by._replace(bias=by_bias)
        return tuple(gradients_by)


class _TermsTransformed(_Terms):
    """The same for transforms, which need a `jvp` even if only the queries have a tangent."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _Terms.setup_context(ctx, inputs, output)
        ctx.save_for_forward(_Inputs(*inputs).others)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        if _Inputs(*tangents).outputs is not None:
            raise NotImplementedError(BY_QUERIES)
        others: Tensor = ctx.saved_tensors[0]
        return tuple(others.new_zeros(others.shape[0]) for _ in OutputTerms._fields)


def _by_outputs(ctx: Any, saved: _Inputs, weights: LogitWeights) -> tuple[Tensor, Tensor]:
    """The gradients by the outputs (N, d) and by the bias (N,)."""
    tensors = saved.queries, saved.outputs, saved.targets, saved.others, *weights
    options = ctx.bias_column, ctx.backend, ctx.precision
    gradients: tuple[Tensor, Tensor] = run(softmax_outputs, *tensors, *options)
    return gradients


def _by_both(
    ctx: Any, saved: _Inputs, weights: LogitWeights, by_entropy: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The results of `_by_outputs`, and the entropies' by the queries, (B, d) or None."""
    if not ctx.by_queries:
        return *_by_outputs(ctx, saved, weights), None
    queries, odds = saved.queries, (saved.log_odds, saved.difference)
    tensors = queries, saved.outputs, saved.targets, *odds, saved.others, *weights
    options = ctx.bias_column, ctx.backend, ctx.precision
    product, *gradients = run(softmax_entropy_gradients, *tensors, *options)
    rows = entropy_gradient(queries, *odds, product)
    return *gradients, (by_entropy[:, None] * rows).to(queries.dtype)


def _weights(by_odds: Tensor | None, by_target: Tensor | None, others: Tensor) -> LogitWeights:
    """By the gradients by log-odds and target's logit."""
    if by_odds is None:
        by_odds = others.new_zeros(others.shape[0])
    return LogitWeights(by_odds, None if by_target is None else by_target - by_odds)


def _weights_of_entropy(weights: LogitWeights, by_entropy: Tensor, saved: _Inputs) -> LogitWeights:
    """With the gradient by the entropies, `-p (l - m)` by the logit `l` of an item.

    Its probability is `p`, and `m` is the mean logit.
    """
    gap, probability = row_dot(saved.queries, saved.difference), saved.log_odds.sigmoid()
    slope = -by_entropy * probability
    target = weights.at_target - slope * (-saved.log_odds).sigmoid() * gap
    others = weights.others - slope * (saved.target_logit + probability * gap)
    return LogitWeights(others, target, slope)
