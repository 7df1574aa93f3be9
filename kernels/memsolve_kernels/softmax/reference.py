"""The definition, with every logit in memory: the ground truth for the other backends.

The *others* of a query are all items but its target. With `l` the logits, `L` the log of the sum
of `exp` over the others and `m` their softmax average, everything follows from the log-odds
`L - l_y` against the target and from the difference `m - v_y`, neither of which cancels when the
target holds nearly all the probability:

    loss = softplus(L - l_y),    gradient = sigmoid(L - l_y) (m - v_y).

Each part of the items has its own `L` and `m`; averages of parts are averaged with the softmax of
their `L`.
"""

from typing import ClassVar

import torch
from torch import Tensor

from memsolve_kernels.softmax.interface import SoftmaxBackend
from memsolve_kernels.softmax.partials import (
    HvpContext,
    LogitWeights,
    RankPartial,
    WeightedPartial,
    accumulation_dtype,
)


class ReferenceBackend(SoftmaxBackend):
    """All logits of a part at once, by torch's softmax and logsumexp."""

    name: ClassVar[str] = "reference"

    def target_logits(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Taken from all logits, so that an output equal to the target's ties with it."""
        return _logits(queries, outputs).gather(1, targets[:, None])[:, 0]

    def partial_odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> WeightedPartial:
        """One part: its `L` as maximum and sum, and its `m` with weights that add to one."""
        others = _others(queries, outputs, targets)
        return _part(others, _softmax(others, 1), outputs)

    def finish_odds(
        self, partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,), its gradient, the difference (B, d), and the others (B, 2)."""
        mean, logs = _average(partial), _log_sums(partial)
        log_odds = logs.logsumexp(0) - self.target_logits(queries, outputs, targets)
        top, total = _combine_totals(partial)
        others = torch.stack((top, total.masked_fill(total == 0, 1)), 1)
        return log_odds, mean - outputs[targets].to(mean.dtype), others

    def combine_weighted(self, partial: WeightedPartial) -> WeightedPartial:
        """One part with the `L` and the average of all."""
        top, total = _combine_totals(partial)
        return WeightedPartial(
            top[None], total[None], torch.ones_like(total)[None], _average(partial)[None]
        )

    def hvp_context(
        self,
        queries: Tensor,
        directions: Tensor | None,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> HvpContext:
        """The others' mean along the directions; no shift."""
        directions = (queries if directions is None else directions).to(difference.dtype)
        center = (directions * (difference + outputs[targets].to(difference.dtype))).sum(1)
        scale, shift = torch.ones_like(center)[:, None], torch.zeros_like(center)
        return HvpContext(directions, scale, shift, center)

    def partial_covariance(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, context: HvpContext
    ) -> WeightedPartial:
        """One part, its outputs weighted by softmax and centred component."""
        others = _others(queries, outputs, targets)
        assert context.directions is not None
        along = context.directions @ outputs.to(others.dtype).T - context.center[:, None]
        return _part(others, _softmax(others, 1) * along, outputs)

    def finish_covariance(self, partial: WeightedPartial, context: HvpContext) -> Tensor:
        """The Hessian of the log-odds times a direction (B, d)."""
        return _average(partial)

    def outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        weights: LogitWeights,
        bias_column: int | None = None,
    ) -> Tensor:
        """The gradient by the outputs (N, d): queries weighted by the gradient by the logits."""
        top, total = others[:, :1], others[:, 1:]
        logits = _logits(queries, outputs)
        factors = weights.others[:, None]
        if weights.logit is not None:
            factors = factors + weights.logit[:, None] * logits
        items = torch.arange(len(outputs), device=outputs.device)
        by_logits = (logits - top).exp() / total * factors
        by_logits = torch.where(items == targets[:, None], weights.at_target[:, None], by_logits)
        return by_logits.T @ queries.to(by_logits.dtype)

    def partial_ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, target_logit: Tensor
    ) -> RankPartial:
        """One part."""
        others = _others(queries, outputs, targets)
        above = (others > target_logit[:, None]).sum(1)
        log_odds = others.logsumexp(1) - target_logit
        return RankPartial(log_odds[None], others.amax(1)[None], above[None])


def _logits(queries: Tensor, outputs: Tensor) -> Tensor:
    dtype = accumulation_dtype(queries.dtype)
    return queries.to(dtype) @ outputs.to(dtype).T


def _others(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The logits (B, N) with -inf at the target."""
    items = torch.arange(len(outputs), device=outputs.device)
    return _logits(queries, outputs).masked_fill_(items == targets[:, None], -torch.inf)


def _softmax(logits: Tensor, over: int) -> Tensor:
    """Softmax; zero, not NaN, where there is no item, or only the target."""
    none = logits.isneginf().all(over, keepdim=True)
    return logits.softmax(over).masked_fill_(none, 0)


def _part(others: Tensor, weights: Tensor, outputs: Tensor) -> WeightedPartial:
    top = others.amax(1).clamp_min(torch.finfo(others.dtype).min)  # finite without items, too
    total = (others - top[:, None]).exp().sum(1)
    sums = weights @ outputs.to(weights.dtype)
    return WeightedPartial(top[None], total[None], torch.ones_like(total)[None], sums[None])


def _combine_totals(partial: WeightedPartial) -> tuple[Tensor, Tensor]:
    top = partial.top.amax(0)
    return top, ((partial.top - top).exp() * partial.total).sum(0)


def _log_sums(partial: WeightedPartial) -> Tensor:
    return partial.top + partial.total.log()


def _average(partial: WeightedPartial) -> Tensor:
    return (_softmax(_log_sums(partial), 0)[..., None] * partial.sums).sum(0)
