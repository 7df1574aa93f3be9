"""The public functions of softmax-logistic regression with fixed outputs.

Query `q_b` of item `y_b` has logits `l_bj = q_b . v_j` against every output `v_j`, and the loss
is `sum_b w_b (logsumexp_j l_bj - l_b,y_b)`. The target's column is kept apart from the others', so
that loss, gradient and margin keep their relative accuracy however close to 1 its probability is.

On a CPU values are checked. The Triton kernels would have to wait for that: there NaN and infinity
spread to the results, and a target outside `[0, N)` makes its row NaN and its rank -1.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from memsolve_kernels.dispatch import Backend, Precision
from memsolve_kernels.errors import InputError
from memsolve_kernels.softmax.checks import check_inputs
from memsolve_kernels.softmax.ops import softmax_curvature, softmax_odds, softmax_rank
from memsolve_kernels.softmax.passes import accumulation_dtype


class Retrieval(NamedTuple):
    """How each query retrieves its target; every tensor is (B,).

    Attributes:
        log_partition: logsumexp of all logits.
        target_logit: logit of the target.
        margin: target's logit less the best other's; positive where the item is recovered, and
            infinite if there is no other.
        rank: number of items with a larger logit, int64.
        loss: `log_partition - target_logit`, without the cancellation of that difference.
    """

    log_partition: Tensor
    target_logit: Tensor
    margin: Tensor
    rank: Tensor
    loss: Tensor


def softmax_loss(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    backend: Backend | None = None,
    precision: Precision | None = None,
) -> Tensor:
    """Weighted sum of the cross-entropies; differentiable in `queries` (twice) and `weights`.

    Args:
        queries: (B, d), float64, float32, bfloat16 or float16.
        outputs: (N, d), keys and values at once; constants.
        targets: (B,), integers in [0, N).
        weights: (B,), 1/B each by default.
        backend: "reference", "torch" or "triton"; None chooses by device.
        precision: of float32 products on tensor cores; None is "ieee".

    Returns:
        The loss, a scalar in float32, or float64 for float64 inputs.

    Raises:
        InputError: one of its subclasses says which argument cannot be used, and why.
    """
    weights = _checked(queries, outputs, targets, weights)
    if torch.is_grad_enabled() and outputs.requires_grad:
        raise InputError(
            "outputs require a gradient, but softmax_loss takes them as constants: "
            "pass outputs.detach()"
        )
    differentiable = torch.is_grad_enabled() and queries.requires_grad
    one_pass = softmax_odds if differentiable else softmax_rank
    log_odds, *_ = one_pass(queries, outputs, targets, backend, precision)
    return weights @ _loss(log_odds)


@torch.no_grad()
def softmax_gradient(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    backend: Backend | None = None,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss of `softmax_loss` and its gradient by the queries, in one pass without autograd.

    Arguments and errors are those of `softmax_loss`.

    Returns:
        The loss, a scalar, and the gradient, (B, d); both in float32, or float64 for float64
        inputs. The gradient of bfloat16 queries is thus not rounded to bfloat16.
    """
    weights = _checked(queries, outputs, targets, weights)
    log_odds, difference = softmax_odds(queries, outputs, targets, backend, precision)
    return weights @ _loss(log_odds), difference.mul_((weights * log_odds.sigmoid())[:, None])


@torch.no_grad()
def softmax_hvp(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    backend: Backend | None = None,
    precision: Precision | None = None,
) -> Tensor:
    """The Hessian of `softmax_loss` by the queries, times `directions`.

    A row is `w e (C t + (1 - e) (m - v_y) (m - v_y)^T t)` with `e = 1 - p_y`, and `m` and `C` mean
    and covariance of the other items' outputs: both terms are positive, so they do not cancel.

    `directions` are (B, d), of the dtype of `queries`. Arguments and errors are otherwise those of
    `softmax_loss`.

    Returns:
        (B, d) in float32, or float64 for float64 inputs.
    """
    weights = _checked(queries, outputs, targets, weights, directions)
    log_odds, difference, product = softmax_curvature(
        queries, directions, outputs, targets, backend, precision
    )
    along = (difference * directions).sum(1) * (-log_odds).sigmoid()
    hessian: Tensor = product.addcmul_(difference, along[:, None])
    return hessian.mul_((weights * log_odds.sigmoid())[:, None])


@torch.no_grad()
def retrieval(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    *,
    backend: Backend | None = None,
    precision: Precision | None = None,
) -> Retrieval:
    """Log-partition, target's logit, margin, rank and loss of each query, in one pass.

    Arguments and errors are those of `softmax_loss`; the statistics are in float32, or float64 for
    float64 inputs.
    """
    check_inputs(queries, outputs, targets)
    log_odds, target_logit, margin, rank = softmax_rank(
        queries, outputs, targets, backend, precision
    )
    loss = _loss(log_odds)
    return Retrieval(target_logit + loss, target_logit, margin, rank, loss)


def _checked(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    directions: Tensor | None = None,
) -> Tensor:
    """The weights in the dtype of the sums, 1/B each by default, once the arguments are checked."""
    check_inputs(queries, outputs, targets, weights, directions)
    batch, dtype = len(queries), accumulation_dtype(queries.dtype)
    if weights is None:
        return queries.new_full((batch,), 1 / max(batch, 1), dtype=dtype)
    return weights.to(dtype)


def _loss(log_odds: Tensor) -> Tensor:
    """`log(1 + exp(log_odds))`, exact to rounding on both sides."""
    return softplus(log_odds, threshold=40)
