"""Functions of each query's row, in the dtype of sums and without `torch.autocast`."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import softplus

from memsolve_kernels.modes import is_traced, without_autocast
from memsolve_kernels.softmax.interface import in_accumulated_parts
from memsolve_kernels.softmax.partials import accumulation_dtype


def row_dot(rows: Tensor, others: Tensor) -> Tensor:
    """The product of each row (B, d) with another, (B,)."""
    dtype = accumulation_dtype(rows.dtype)
    return (rows.to(dtype) * others.to(dtype)).sum(1)


def losses_of(log_odds: Tensor) -> Tensor:
    """`log(1 + exp(log_odds))`, exact to rounding on both sides."""
    return softplus(log_odds, threshold=40)


def entropies(queries: Tensor, log_odds: Tensor, difference: Tensor) -> Tensor:
    """The entropy (B,) of each query's softmax, from the results of `softmax_odds`.

    The log-partition and the mean logit, both relative to the target's logit, whose difference it
    is, are `softplus(log_odds)` and the others' probability times the mean of theirs.
    """
    mean = log_odds.sigmoid() * row_dot(queries, difference)
    return (losses_of(log_odds) - mean).clamp_min(0)


def entropy_gradient(
    queries: Tensor, log_odds: Tensor, difference: Tensor, product: Tensor
) -> Tensor:
    """The gradient (B, d) of each entropy by its query, minus the Hessian of `L` times the query.

    Args:
        queries: (B, d).
        log_odds: (B,).
        difference: (B, d), their gradient.
        product: (B, d), their Hessian times the queries.
    """
    others, own = log_odds.sigmoid()[:, None], (-log_odds).sigmoid()[:, None]
    gap = row_dot(queries, difference)[:, None]
    return -others * (product + own * gap * difference)


@without_autocast
def weighted_sum(weights: Tensor, rows: Tensor) -> Tensor:
    """The sum (d,) of the rows (R, d) times their weights (R,), in the weights' dtype."""
    if is_traced(rows) or is_traced(weights):
        return weights @ rows.to(weights.dtype)
    total = weights.new_zeros(rows.shape[1])
    for first, part in _parts(rows):
        total += weights[first : first + len(part)] @ part
    return total


def _parts(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    first = 0
    for part in in_accumulated_parts(rows):
        yield first, part
        first += len(part)


def own_outputs(outputs: Tensor, targets: Tensor) -> Tensor:
    """The output (B, d) of each target, NaN for a target that is no item."""
    targets = targets.long()
    inside = targets.clamp(0, outputs.shape[0] - 1)
    nan = outputs.new_full((), torch.nan)
    return torch.where((targets == inside)[:, None], outputs[inside], nan)
