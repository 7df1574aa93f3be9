"""The losses of queries by their options, from one pass over the items.

The loss of a query with the target `y` is

    (1 - s) c_y (L - l_y) + s sum_j c_j (L - l_j) / N + c_y z L^2

with logits `l`, their log-partition `L`, class weights `c` (one without them), label smoothing `s`
and `z_loss` `z`: the first two terms are torch's `cross_entropy`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.softmax import derivatives
from memsolve_kernels.softmax.options import LossOptions
from memsolve_kernels.softmax.partials import accumulation_dtype
from memsolve_kernels.softmax.preparation import Call
from memsolve_kernels.softmax.rows import losses_of
from memsolve_kernels.softmax.statistics import LogitStatistics, logit_statistics


class Losses(NamedTuple):
    """The losses of queries, and what they are made of; every tensor is (B,).

    Attributes:
        loss: by the options.
        weight: class weight of the target, or None without class weights.
        statistics: of the logits; None where the log-odds are all that the options need.
    """

    loss: Tensor
    weight: Tensor | None
    statistics: LogitStatistics | None


def query_losses(call: Call, *, has_statistics: bool = False) -> Losses:
    """The losses of a call's queries, also of the ignored ones.

    Args:
        call: prepared.
        has_statistics: whether the result has statistics, with entropies.
    """
    inputs, backend = (call.queries, call.outputs, call.targets), (call.backend, call.precision)
    weight = _target_weights(call)
    if call.options.need_log_odds_only and not has_statistics:
        loss = losses_of(derivatives.log_odds(*inputs, *backend, call.bias))
        return Losses(loss if weight is None else weight * loss, weight, None)
    first, num_items = _items(call)
    weights = _item_weights(call, num_items)
    own = None if weights is None else weights[first : first + call.outputs.shape[0]]
    statistics = logit_statistics(
        *inputs, backend, bias=call.bias, item_weights=own, has_entropy=has_statistics
    )
    return Losses(_loss(statistics, call.options, weight, weights), weight, statistics)


def _loss(
    statistics: LogitStatistics,
    options: LossOptions,
    weight: Tensor | None,
    item_weights: Tensor | None,
) -> Tensor:
    cross_entropy = losses_of(statistics.log_odds)
    log_partition = statistics.target_logit + cross_entropy
    loss = cross_entropy * (1 - options.label_smoothing)
    if options.z_loss:
        loss = loss + options.z_loss * log_partition.square()
    if weight is not None:
        loss = weight * loss
    if statistics.mean_logit is None or item_weights is None:
        return loss
    smooth = item_weights.sum() * log_partition - statistics.mean_logit
    return loss + options.label_smoothing * smooth


def _item_weights(call: Call, num_items: int) -> Tensor | None:
    """The weights (N,) of all items in the smoothed labels, or None without smoothing."""
    if call.options.label_smoothing == 0:
        return None
    dtype = accumulation_dtype(call.queries.dtype)
    if call.options.class_weights is not None:
        return call.options.class_weights.to(dtype) / num_items
    return call.queries.new_full((num_items,), 1 / num_items, dtype=dtype)


def _target_weights(call: Call) -> Tensor | None:
    """The class weight (B,) of each target; any for a target that is no item."""
    weights = call.options.class_weights
    if weights is None:
        return None
    inside = call.targets.long().clamp(0, weights.shape[0] - 1)
    return weights.to(accumulation_dtype(call.queries.dtype))[inside]


def _items(call: Call) -> tuple[int, int]:
    """The number of the first of the call's outputs, and of all items."""
    if call.backend is None or isinstance(call.backend, str):
        return 0, call.outputs.shape[0]
    return call.backend.first, call.backend.num_items


def default_weights(kept: Tensor | None, weight: Tensor | None, like: Tensor) -> Tensor:
    """Weights (B,) of a mean over kept queries, or by class weights: zero for those ignored."""
    counts = torch.ones_like(like) if kept is None else kept.to(like.dtype)
    total = counts.sum() if weight is None else (counts * weight).sum()
    return counts / total.masked_fill(total == 0, 1)
