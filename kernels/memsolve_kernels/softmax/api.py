"""The public functions of softmax-logistic regression.

Query `q_b` of item `y_b` has logits `l_bj = q_b . v_j` against every output `v_j`, and the loss
is `sum_b w_b (logsumexp_j l_bj - l_b,y_b)`. The target's column is separate from the others', so
that loss, gradient and margin keep their relative accuracy however close to 1 its probability is.

On a CPU values are checked. For the Triton kernels a check would stall the GPU: there NaN and
infinity propagate to the results, and a target outside `[0, N)` gives a row of NaN and rank -1.

Where the outputs are sharded over ranks, the object that exchanges with the other ranks takes the
place of the backend's name (`group.py`).
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.modes import eager_if_distributed, is_distributed, without_autocast
from memsolve_kernels.softmax import derivatives
from memsolve_kernels.softmax.checks import Arguments, Reduction, check_arguments, check_finite
from memsolve_kernels.softmax.ops import run, softmax_curvature, softmax_rank
from memsolve_kernels.softmax.partials import accumulation_dtype

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Retrieval(NamedTuple):
    """How each query retrieves its target; every tensor is (B,).

    Attributes:
        log_partition: logsumexp of all logits.
        target_logit: logit of the target.
        margin: target's logit minus the best other's; positive if the item is recovered, and
            infinite if there is no other item.
        rank: number of items with a larger logit, int64.
        loss: `log_partition - target_logit`, without the cancellation of that difference.
    """

    log_partition: Tensor
    target_logit: Tensor
    margin: Tensor
    rank: Tensor
    loss: Tensor


@eager_if_distributed
def softmax_loss(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    reduction: Reduction = "weighted",
    ignore_index: int | None = None,
    group: "ProcessGroup | None" = None,
    backend: BackendName | None = None,
    precision: Precision | None = None,
) -> Tensor:
    """Weighted sum of the cross-entropies, or each of them, without reduction.

    Differentiable twice by `queries`, once by `outputs` (in a second pass over the items), and by
    `weights`.

    Args:
        queries: (B, d), float64, float32, bfloat16 or float16.
        outputs: (N, d), keys and values at once. With a group, this rank's shard (N_r, d) of them,
            which may be empty; a DTensor that is sharded over its rows needs no `group`.
        targets: (B,), integers in [0, N).
        weights: (B,), by default 1/B each, where B does not count ignored queries.
        reduction: "weighted" for the sum, or "none" for the loss of each query, without weights.
        ignore_index: target value of ignored queries. Their loss and gradient are zero, and query
            and weight may be anything, NaN included.
        group: process group whose ranks hold the shards of the outputs, in their order. Every rank
            calls with the same bits in all other arguments, and numbers of items among those of
            all ranks as targets; each gets the same result, and the gradient of its own outputs.
        backend: "reference", "torch" or "triton"; None selects by device.
        precision: of float32 products on tensor cores; None is "ieee" in the Triton kernels, and
            follows torch's own settings in the torch backend.

    Returns:
        The loss, a scalar, or (B,) for "none"; in float32, or float64 for float64 inputs.

    Raises:
        InputError: a subclass, with the invalid argument and the reason.
    """
    inputs = queries, outputs, targets, weights
    options = ignore_index, reduction, backend, precision
    outputs, backend = _check(Arguments("softmax_loss", *inputs, None, *options), group)
    ignored = None if ignore_index is None else targets.long() == ignore_index
    if ignored is not None:
        queries, targets = queries.masked_fill(ignored[:, None], 0), targets.masked_fill(ignored, 0)
        weights = None if weights is None else weights.masked_fill(ignored, 0)
    losses = _loss(derivatives.log_odds(queries, outputs, targets, backend, precision))
    if ignored is not None:
        losses = losses.masked_fill(ignored, 0)
    if reduction == "none":
        return losses
    if weights is None and ignored is not None:
        kept = (~ignored).to(losses.dtype)
        weights = kept / kept.sum().clamp_min_(1)
    return _total(_weights(queries, weights), losses)


@eager_if_distributed
@torch.no_grad()
def softmax_gradient(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    group: "ProcessGroup | None" = None,
    backend: BackendName | None = None,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss of `softmax_loss` and its gradient by the queries, in one pass without autograd.

    Arguments and errors are those of `softmax_loss`.

    Returns:
        The loss, a scalar, and the gradient, (B, d); both in float32, or float64 for float64
        inputs. The gradient of bfloat16 queries is thus not rounded to bfloat16.
    """
    inputs = queries, outputs, targets, weights
    outputs, backend = _check(
        Arguments("softmax_gradient", *inputs, backend=backend, precision=precision), group
    )
    weights = _weights(queries, weights)
    log_odds, difference = derivatives.odds(queries, outputs, targets, backend, precision)
    loss = _total(weights, _loss(log_odds))
    return loss, difference.mul_((weights * log_odds.sigmoid())[:, None])


@eager_if_distributed
@torch.no_grad()
def softmax_hvp(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    group: "ProcessGroup | None" = None,
    backend: BackendName | None = None,
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
    inputs = queries, outputs, targets, weights, directions
    outputs, backend = _check(
        Arguments("softmax_hvp", *inputs, backend=backend, precision=precision), group
    )
    weights = _weights(queries, weights)
    queries, directions, outputs = (
        derivatives.refuse(each, derivatives.TWICE) for each in (queries, directions, outputs)
    )
    log_odds, difference, product = run(
        softmax_curvature, queries, directions, outputs, targets, backend, precision
    )
    along = (difference * directions).sum(1) * (-log_odds).sigmoid()
    hessian: Tensor = product.addcmul_(difference, along[:, None])
    return hessian.mul_((weights * log_odds.sigmoid())[:, None])


@eager_if_distributed
@torch.no_grad()
def retrieval(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    *,
    group: "ProcessGroup | None" = None,
    backend: BackendName | None = None,
    precision: Precision | None = None,
) -> Retrieval:
    """Log-partition, target's logit, margin, rank and loss of each query, in one pass.

    Arguments and errors are those of `softmax_loss`; the statistics are in float32, or float64 for
    float64 inputs.
    """
    inputs = queries, outputs, targets
    outputs, backend = _check(
        Arguments("retrieval", *inputs, backend=backend, precision=precision), group
    )
    why = "retrieval has no derivative; use that of softmax_loss"
    queries, outputs = (derivatives.refuse(each, why) for each in (queries, outputs))
    log_odds, target_logit, margin, rank = run(
        softmax_rank, queries, outputs, targets, backend, precision
    )
    loss = _loss(log_odds)
    return Retrieval(target_logit + loss, target_logit, margin, rank, loss)


def _check(arguments: Arguments, group: "ProcessGroup | None") -> tuple[Tensor, Any]:
    """Check the arguments; the outputs here, and the backend's name, or `group.Sharded`."""
    if group is None and not is_distributed(arguments.outputs):
        check_arguments(arguments)
        return arguments.outputs, arguments.backend
    from memsolve_kernels.softmax.group import share

    return share(arguments, group)


def _weights(queries: Tensor, weights: Tensor | None) -> Tensor:
    """Weights in the dtype of the sums, by default 1/B each; checked to be finite on a CPU."""
    batch, dtype = queries.shape[0], accumulation_dtype(queries.dtype)
    if weights is None:
        return queries.new_full((batch,), 1 / torch.sym_max(batch, 1), dtype=dtype)
    check_finite(weights=weights)
    return weights.to(dtype)


def _loss(log_odds: Tensor) -> Tensor:
    """`log(1 + exp(log_odds))`, exact to rounding on both sides."""
    return softplus(log_odds, threshold=40)


@without_autocast
def _total(weights: Tensor, losses: Tensor) -> Tensor:
    """The weighted sum of the losses."""
    return weights @ losses
