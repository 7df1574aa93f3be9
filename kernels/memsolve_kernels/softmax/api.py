"""The public functions of softmax-logistic regression.

Query `q_b` of item `y_b` has logits `l_bj = q_b . v_j` against every output `v_j`, and the loss
is `sum_b w_b (logsumexp_j l_bj - l_b,y_b)`. The target's column is separate from the others', so
that loss, gradient and margin keep their relative accuracy however close to 1 its probability is.

On a CPU values are checked. For the Triton kernels a check would stall the GPU: there NaN and
infinity propagate to the results, and a target outside `[0, N)` gives a row of NaN and rank -1.

Where the outputs are sharded over ranks, the object that exchanges with the other ranks takes the
place of the backend's name (`group.py`).
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.modes import eager_if_distributed, without_autocast
from memsolve_kernels.softmax import derivatives
from memsolve_kernels.softmax.checks import Arguments, Reduction
from memsolve_kernels.softmax.differentiation import refuse
from memsolve_kernels.softmax.losses import default_weights, query_losses
from memsolve_kernels.softmax.ops import run, softmax_curvature, softmax_rank
from memsolve_kernels.softmax.options import LossOptions
from memsolve_kernels.softmax.partials import accumulation_dtype
from memsolve_kernels.softmax.preparation import check, prepare
from memsolve_kernels.softmax.rows import losses_of
from memsolve_kernels.softmax.tensor_checks import check_finite

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Retrieval(NamedTuple):
    """How each query retrieves its target; every tensor has the shape of the targets.

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


class SoftmaxStatistics(NamedTuple):
    """What one pass says about each query; every tensor has the shape of the targets.

    Attributes:
        loss: of the query, as `softmax_loss` returns it for `reduction="none"`.
        log_partition: logsumexp of all logits.
        entropy: of the softmax, in nats.
        target_logit: logit of the target.
    """

    loss: Tensor
    log_partition: Tensor
    entropy: Tensor
    target_logit: Tensor


@eager_if_distributed
def softmax_loss(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    reduction: Reduction = "weighted",
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    temperature: float | Tensor | None = None,
    bias: Tensor | None = None,
    class_weights: Tensor | None = None,
    logit_cap: float | None = None,
    group: "ProcessGroup | None" = None,
    backend: BackendName | None = None,
    precision: Precision | None = None,
) -> Tensor:
    """Weighted sum of the cross-entropies, or each of them, without reduction.

    Differentiable twice by `queries`, once by `outputs` (in a second pass over the items), and by
    `weights`, `temperature` and `bias`. With label smoothing and class weights a cross-entropy is
    that of `torch.nn.functional.cross_entropy`.

    Args:
        queries: (B, d), or (..., d), float64, float32, bfloat16 or float16.
        outputs: (N, d), keys and values at once. With a group, this rank's shard (N_r, d) of them,
            which may be empty; a DTensor that is sharded over its rows needs no `group`.
        targets: (B,), or (...), integers in [0, N).
        weights: (B,), or (...), by default 1/B each, where B does not count ignored queries; with
            class weights, by default one over the sum of the targets' class weights.
        reduction: "weighted" for the sum, or "none" for the loss of each query, without weights.
        ignore_index: target value of ignored queries. Their loss and gradient are zero, and query
            and weight may be anything, NaN included.
        z_loss: coefficient of the squared log-partition, which is added to a query's loss, times
            the class weight of its target.
        label_smoothing: share of each target, in [0, 1], that is spread over all items.
        temperature: positive number, or a tensor of one, that divides all logits. In half precision
            the divided queries are rounded.
        bias: (N,) in the dtype of queries or sums, added to the logits of the items; with a group,
            this rank's (N_r,). It costs a copy of the outputs with more dimensions, in whose dtype
            it has its range: what is lower, as of a mask, becomes the lowest number (-65504 in
            float16), and what is higher is refused on a CPU, and gives NaN on a GPU.
        class_weights: (N,) in the dtype of queries or sums, at least zero; with a group, those of
            all ranks.
        logit_cap: refused, with the reason.
        group: process group whose ranks hold the shards of the outputs, in their order. Every rank
            calls with the same bits in all other arguments but the bias, and numbers of items among
            those of all ranks as targets; each gets the same result, and the gradient of its own
            outputs.
        backend: "reference", "torch" or "triton"; None selects by device.
        precision: of float32 products on tensor cores; None is "ieee" in the Triton kernels, and
            follows torch's own settings in the torch backend.

    Returns:
        The loss, a scalar, or of the targets' shape for "none"; in float32, or float64 for float64
        inputs.

    Raises:
        InputError: a subclass, with the invalid argument and the reason.
    """
    options = LossOptions(z_loss, label_smoothing, temperature, bias, class_weights, logit_cap)
    inputs = queries, outputs, targets, weights, None, ignore_index, reduction
    arguments = Arguments("softmax_loss", *inputs, backend, precision, options)
    call = prepare(arguments, group)
    result = query_losses(call)
    loss = result.loss if call.ignored is None else result.loss.masked_fill(call.ignored, 0)
    if reduction == "none":
        return loss.view(targets.shape)
    row_weights = call.weights
    if row_weights is None and (call.ignored is not None or result.weight is not None):
        kept = None if call.ignored is None else ~call.ignored
        row_weights = default_weights(kept, result.weight, loss)
    return _total(_weights(call.queries, row_weights, targets.shape), loss)


@eager_if_distributed
def softmax_statistics(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    *,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    temperature: float | Tensor | None = None,
    bias: Tensor | None = None,
    class_weights: Tensor | None = None,
    group: "ProcessGroup | None" = None,
    backend: BackendName | None = None,
    precision: Precision | None = None,
) -> SoftmaxStatistics:
    """Loss, log-partition, entropy and target's logit of each query, from one pass over the items.

    Differentiable as `softmax_loss` is, whose arguments and errors these are, but for the entropy:
    that once, and by the queries in a pass of its own. Statistics of ignored queries are zero.

    Returns:
        Each of the targets' shape, in float32, or float64 for float64 inputs.
    """
    options = LossOptions(z_loss, label_smoothing, temperature, bias, class_weights)
    inputs = queries, outputs, targets, None, None, ignore_index
    arguments = Arguments("softmax_statistics", *inputs, options=options)
    call = prepare(arguments._replace(backend=backend, precision=precision), group)
    loss, _, statistics = query_losses(call, has_statistics=True)
    assert statistics is not None
    assert statistics.entropy is not None
    log_partition = statistics.target_logit + losses_of(statistics.log_odds)
    results = loss, log_partition, statistics.entropy, statistics.target_logit
    if call.ignored is not None:
        results = tuple(each.masked_fill(call.ignored, 0) for each in results)  # type: ignore[assignment]
    return SoftmaxStatistics(*(each.view(targets.shape) for each in results))


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
        The loss, a scalar, and the gradient, of the queries' shape; both in float32, or float64 for
        float64 inputs. The gradient of bfloat16 queries is thus not rounded to bfloat16.
    """
    inputs = queries, outputs, targets, weights
    arguments = Arguments("softmax_gradient", *inputs, backend=backend, precision=precision)
    checked, backend = check(arguments, group)
    row_weights = _weights(checked.queries, checked.weights, targets.shape)
    rows = checked.queries, checked.outputs, checked.targets
    log_odds, difference = derivatives.odds(*rows, backend, precision)
    loss = _total(row_weights, losses_of(log_odds))
    gradient = difference.mul_((row_weights * log_odds.sigmoid())[:, None])
    return loss, gradient.view(queries.shape)


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

    `directions` have the shape and the dtype of `queries`. Arguments and errors are otherwise those
    of `softmax_loss`.

    Returns:
        Of the queries' shape, in float32, or float64 for float64 inputs.
    """
    inputs = queries, outputs, targets, weights, directions
    arguments = Arguments("softmax_hvp", *inputs, backend=backend, precision=precision)
    checked, backend = check(arguments, group)
    assert checked.directions is not None
    row_weights = _weights(checked.queries, checked.weights, targets.shape)
    rows, row_directions, outputs = (
        refuse(each, derivatives.TWICE)
        for each in (checked.queries, checked.directions, checked.outputs)
    )
    log_odds, difference, product = run(
        softmax_curvature, rows, row_directions, outputs, checked.targets, backend, precision
    )
    along = (difference * row_directions).sum(1) * (-log_odds).sigmoid()
    hessian: Tensor = product.addcmul_(difference, along[:, None])
    return hessian.mul_((row_weights * log_odds.sigmoid())[:, None]).view(queries.shape)


@eager_if_distributed
@torch.no_grad()
def retrieval(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor | None = None,
    bias: Tensor | None = None,
    group: "ProcessGroup | None" = None,
    backend: BackendName | None = None,
    precision: Precision | None = None,
) -> Retrieval:
    """Log-partition, target's logit, margin, rank and loss of each query, in one pass.

    The accuracy is the mean of `rank == 0`. Arguments and errors are those of `softmax_loss`.

    Returns:
        Each of the targets' shape; in float32, or float64 for float64 inputs.
    """
    options = LossOptions(temperature=temperature, bias=bias)
    arguments = Arguments("retrieval", queries, outputs, targets, options=options)
    call = prepare(arguments._replace(backend=backend, precision=precision), group)
    why = "retrieval has no derivative; use that of softmax_loss"
    rows, outputs = (refuse(each, why) for each in (call.queries, call.outputs))
    log_odds, target_logit, margin, rank = run(
        softmax_rank, rows, outputs, call.targets, call.backend, call.precision
    )
    loss = losses_of(log_odds)
    results = target_logit + loss, target_logit, margin, rank, loss
    return Retrieval(*(each.view(targets.shape) for each in results))


def _weights(queries: Tensor, weights: Tensor | None, shape: torch.Size) -> Tensor:
    """Weights (B,) in the dtype of the sums, by default 1/B each; checked to be finite on a CPU.

    Args:
        queries: (B, d).
        weights: (B,), or None.
        shape: in which an error says which weight it is.
    """
    batch, dtype = queries.shape[0], accumulation_dtype(queries.dtype)
    if weights is None:
        return queries.new_full((batch,), 1 / torch.sym_max(batch, 1), dtype=dtype)
    check_finite(weights=weights.view(shape))
    return weights.to(dtype)


@without_autocast
def _total(weights: Tensor, losses: Tensor) -> Tensor:
    """The weighted sum of the losses."""
    return weights @ losses
