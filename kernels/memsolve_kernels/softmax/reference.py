"""The definition, with every logit in memory: the truth that the other backends are held against.

The *others* of a query are all items but its target. With `l` the logits, `L` the log of the sum
of `exp` over the others and `m` their softmax average, everything follows from the log-odds
`L - l_y` against the target and from the difference `m - v_y`, neither of which cancels when the
target holds nearly all the probability:

    loss = softplus(L - l_y),    gradient = sigmoid(L - l_y) (m - v_y).
"""

import torch
from torch import Tensor

from memsolve_kernels.softmax.precision import accumulation_dtype


def odds(queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The log-odds (B,) and its gradient, the difference (B, d)."""
    others, own = _logits(queries, outputs, targets)
    values = outputs.to(others.dtype)
    mean = _softmax(others) @ values
    return others.logsumexp(1) - own, mean - values[targets]


def covariance(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    log_odds: Tensor,
    difference: Tensor,
) -> Tensor:
    """The Hessian of the log-odds times a direction, (B, d): the covariance of the others."""
    others, _ = _logits(queries, outputs, targets)
    values, directions = outputs.to(others.dtype), directions.to(others.dtype)
    mean = difference + values[targets]
    along = directions @ values.T - (directions * mean).sum(1, keepdim=True)
    return (_softmax(others) * along) @ values


def ranks(queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """`(log_odds, target_logit, margin, rank)`, each (B,), rank in int64."""
    others, own = _logits(queries, outputs, targets)
    rank = (others > own[:, None]).sum(1)
    return others.logsumexp(1) - own, own, own - others.amax(1), rank


def _logits(queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (B, N) with -inf at the target, and the target's own (B,)."""
    dtype = accumulation_dtype(queries.dtype)
    logits = queries.to(dtype) @ outputs.to(dtype).T
    column = targets[:, None]
    return logits.scatter(1, column, -torch.inf), logits.gather(1, column)[:, 0]


def _softmax(others: Tensor) -> Tensor:
    """Softmax over the others; zero, not NaN, where the target is the only item."""
    return others.softmax(1) if others.shape[1] > 1 else torch.zeros_like(others)
