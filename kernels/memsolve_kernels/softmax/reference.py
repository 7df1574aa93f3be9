"""The definition, with every logit in memory: the truth that the other backends are held against.

The *others* of a query are all items but its target. With `l` the logits, `L` the log of the sum
of `exp` over the others and `m` their softmax average, everything follows from `L - l_y` and
`m - v_y`, neither of which cancels when the target holds nearly all the probability:

    loss = softplus(L - l_y),    gradient = sigmoid(L - l_y) (m - v_y).
"""

import torch
from torch import Tensor

from memsolve_kernels.softmax.precision import accumulation_dtype


def mean_of_others(queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """`(log_others, target_logit, mean)` of shapes (B,), (B,), (B, d)."""
    others, target_logit = _logits(queries, outputs, targets)
    log_others = others.logsumexp(1)
    return log_others, target_logit, _softmax(others, log_others) @ outputs.to(others.dtype)


def covariance_of_others(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    log_others: Tensor,
    mean: Tensor,
) -> Tensor:
    """Covariance of the others' outputs under their softmax, times a direction: (B, d)."""
    others, _ = _logits(queries, outputs, targets)
    values, directions = outputs.to(others.dtype), directions.to(others.dtype)
    along = directions @ values.T - (directions * mean).sum(1, keepdim=True)
    return (_softmax(others, log_others) * along) @ values


def rank_among_others(queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """`(log_others, target_logit, best_other, rank)`, each (B,), rank in int64."""
    others, target_logit = _logits(queries, outputs, targets)
    rank = (others > target_logit[:, None]).sum(1)
    return others.logsumexp(1), target_logit, others.amax(1), rank


def _logits(queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (B, N) with -inf at the target, and the target's own (B,)."""
    dtype = accumulation_dtype(queries.dtype)
    logits = queries.to(dtype) @ outputs.to(dtype).T
    column = targets[:, None]
    return logits.scatter(1, column, -torch.inf), logits.gather(1, column)[:, 0]


def _softmax(others: Tensor, log_others: Tensor) -> Tensor:
    """Softmax over the others; zero, not NaN, where the target is the only item."""
    return torch.exp(others - log_others[:, None].clamp_min(torch.finfo(others.dtype).min))
