"""The derivative by the outputs of everything that the softmax functions compute of a query.

One second pass over the items serves all of it: an item's gradient is the sum of the queries,
weighted by its share of the others' exponentials times a factor, plus a multiple of its logit for
the entropy; its own queries have a weight apart.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from memsolve_kernels.softmax.differentiation import (
    BY_QUERIES,
    apply,
    expand_zero,
    is_differentiated,
    needs_jvp,
    refuse,
)
from memsolve_kernels.softmax.ops import run, softmax_outputs
from memsolve_kernels.softmax.rows import weighted_sum

BY_OUTPUTS = (
    "the gradient of the softmax loss by the outputs is not differentiable: pass outputs.detach() "
    "to take a second derivative"
)


class EntropyContext(NamedTuple):
    """What the derivative of the entropies by the outputs needs; every tensor is (B,).

    Attributes:
        probability: of all items but the target.
        gap: mean logit of the others minus that of the target.
        mean: mean logit of all items.
    """

    probability: Tensor
    gap: Tensor
    mean: Tensor


class OutputTerms(NamedTuple):
    """Zeros (B,) that carry the derivatives by the outputs of what they are added to."""

    log_odds: Tensor
    target_logit: Tensor
    mean_logit: Tensor
    entropy: Tensor


def output_terms(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    others: Tensor,
    options: tuple[str | None, str | None],
    *,
    entropy: EntropyContext | None = None,
    item_weights: Tensor | None = None,
) -> OutputTerms | None:
    """The terms, or None if nothing differentiates by the outputs.

    Args:
        queries: (B, d).
        outputs: (N, d), or this rank's.
        targets: (B,).
        others: (B, 2), of `softmax_odds`.
        options: backend and precision.
        entropy: without it, the entropies have no term.
        item_weights: (N,), of the items in the mean logit, in the dtype of sums; it is zero
            without them.
    """
    if not (torch.is_grad_enabled() and is_differentiated(outputs)):
        return None
    function = _TermsTransformed if needs_jvp() else _Terms
    context = (None, None, None) if entropy is None else entropy
    terms = apply(function, outputs, queries, targets, others, item_weights, *context, *options)
    return OutputTerms(*terms)


class _Terms(Function):
    """A separate node, so that its pass runs only if the outputs' gradient is needed."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        others: Tensor = args[3]
        return tuple(others.new_zeros(others.shape[0]) for _ in OutputTerms._fields)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.backend, ctx.precision = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, ...]:
        outputs, queries, targets, others, item_weights, *context = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:  # a transform by the queries only
            return expand_zero(outputs), *[None] * 9
        entropy = None if context[0] is None else EntropyContext(*context)
        with torch.no_grad():
            weights = _weights(OutputTerms(*by), others, entropy)  # type: ignore[arg-type]
            gradient = run(
                softmax_outputs, queries, outputs, targets, others, *weights,
                ctx.backend, ctx.precision,
            )  # fmt: skip
            if by[2] is not None and item_weights is not None:
                row = weighted_sum(by[2], queries).to(gradient.dtype)
                gradient.addr_(item_weights.to(gradient.dtype), row)
        which = (each for each in by if each is not None)
        return refuse(gradient, BY_OUTPUTS, outputs, queries, *which), *[None] * 9


class _TermsTransformed(_Terms):
    """The same for transforms, which need a `jvp` even if only the queries have a tangent."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _Terms.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[3])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        if tangents[0] is not None:
            raise NotImplementedError(BY_QUERIES)
        others: Tensor = ctx.saved_tensors[0]
        return tuple(others.new_zeros(others.shape[0]) for _ in OutputTerms._fields)


def _weights(
    by: OutputTerms, others: Tensor, entropy: EntropyContext | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The arguments `by_others`, `by_target` and `by_logit` of `softmax_outputs`."""
    by_others = others.new_zeros(others.shape[0]) if by.log_odds is None else by.log_odds
    if by.target_logit is None and by.entropy is None:
        return by_others, None, None
    by_target = -by_others if by.target_logit is None else by.target_logit - by_others
    if by.entropy is None or entropy is None:
        return by_others, by_target, None
    slope = -by.entropy * entropy.probability
    by_target = by_target - slope * (1 - entropy.probability) * entropy.gap
    return by_others - slope * entropy.mean, by_target, slope
