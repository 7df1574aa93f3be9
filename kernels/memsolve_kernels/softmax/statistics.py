"""What one pass over the items says about each query, as differentiable functions."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.modes import needs_jvp
from memsolve_kernels.softmax import derivatives
from memsolve_kernels.softmax.entropy import entropy
from memsolve_kernels.softmax.outputs_derivative import EntropyContext, OutputTerms, output_terms
from memsolve_kernels.softmax.partials import Bias
from memsolve_kernels.softmax.rows import own_outputs, row_dot, weighted_sum


class LogitStatistics(NamedTuple):
    """Statistics of each query's logits; every tensor is (B,).

    Attributes:
        log_odds: of the others against the target.
        target_logit: logit of the target.
        mean_logit: weighted sum of all logits, or None.
        entropy: of the softmax, or None.
    """

    log_odds: Tensor
    target_logit: Tensor
    mean_logit: Tensor | None
    entropy: Tensor | None


def logit_statistics(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    options: tuple[Any, str | None],
    *,
    bias: Bias | None = None,
    item_weights: Tensor | None = None,
    has_entropy: bool = False,
) -> LogitStatistics:
    """Statistics that are differentiable by queries, twice except for the entropy, and outputs.

    Args:
        queries: (B, d).
        outputs: (N, d), or this rank's (N_r, d).
        targets: (B,).
        options: backend, or `group.Sharded`, and precision.
        bias: among the outputs, or None.
        item_weights: (N,) or (N_r,) in the dtype of sums, of the items in `mean_logit`.
        has_entropy: whether to compute the entropies.
    """
    inputs = queries, outputs, targets
    if not has_entropy and not derivatives.is_tracked(queries, outputs):
        log_odds = derivatives.log_odds(*inputs, *options, bias)
        return _of_log_odds(log_odds, *inputs, options[0], item_weights)
    log_odds, difference, others = derivatives.odds_by_queries(*inputs, *options)
    statistics = _of_log_odds(log_odds, *inputs, options[0], item_weights)
    context, by_both = None, has_entropy and _differentiates_both(queries, outputs)
    if has_entropy:
        of_queries = (queries.detach() if by_both else queries), outputs, targets
        value = entropy(*of_queries, log_odds, difference, *options)
        constants = (each.detach() for each in (log_odds, difference, statistics.target_logit))
        statistics, context = statistics._replace(entropy=value), EntropyContext(*constants)
    terms = output_terms(
        *inputs,
        others,
        options,
        has_target=True,
        bias=bias,
        item_weights=item_weights,
        entropy=context,
        by_queries=by_both,
    )
    return statistics if terms is None else _add(statistics, terms)


def _of_log_odds(
    log_odds: Tensor,
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    backend: Any,
    item_weights: Tensor | None,
) -> LogitStatistics:
    """The statistics but the entropy, differentiable by the queries."""
    target_logit = row_dot(queries, _own_outputs(queries, outputs, targets, backend))
    mean_logit = None
    if item_weights is not None:
        mean_logit = row_dot(queries, _weighted_output(item_weights, outputs, backend)[None])
    return LogitStatistics(log_odds, target_logit, mean_logit, None)


def _differentiates_both(queries: Tensor, outputs: Tensor) -> bool:
    """Whether one pass of backward mode gives the entropies' gradient by queries and outputs."""
    return queries.requires_grad and outputs.requires_grad and not needs_jvp()


def _add(statistics: LogitStatistics, terms: OutputTerms) -> LogitStatistics:
    pairs = zip(statistics, terms, strict=True)
    return LogitStatistics(*(None if each is None else each + term for each, term in pairs))  # type: ignore[arg-type]


@torch.no_grad()
def _own_outputs(queries: Tensor, outputs: Tensor, targets: Tensor, backend: Any) -> Tensor:
    """The targets' outputs (B, d), as constants."""
    if backend is None or isinstance(backend, str):
        return own_outputs(outputs.detach(), targets)
    own: Tensor = backend.own_outputs(queries, outputs.detach(), targets)
    return own


@torch.no_grad()
def _weighted_output(weights: Tensor, outputs: Tensor, backend: Any) -> Tensor:
    """The weighted sum (d,) of all outputs, as a constant."""
    total = weighted_sum(weights, outputs.detach())
    if backend is None or isinstance(backend, str):
        return total
    summed: Tensor = backend.sum_over_ranks(total)
    return summed
