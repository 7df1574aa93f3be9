"""Softmax passes of queries over a table of outputs, which need not be held.

A table of one part goes to the functions of `memsolve_kernels`. Of a larger one every part gives a
partial result, which is combined with that of the parts before it.
"""

from collections.abc import Callable
from functools import reduce
from typing import TypeVar

import torch
from memsolve_kernels import Retrieval, retrieval, softmax_gradient, softmax_hvp
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.interface import RankPartial, WeightedPartial, merge
from torch import Tensor
from torch.nn.functional import softplus

from memsolve.tables import Table

QUERIES = 1 << 14
"""Queries of a pass over several parts: of each, a few sums of `d` numbers are kept meanwhile."""

Partial = TypeVar("Partial", WeightedPartial, RankPartial)


def gradient(
    queries: Tensor, outputs: Table, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted loss, a scalar, and its gradient by the queries (B, d)."""
    if outputs.is_one_part:
        return softmax_gradient(queries, outputs.part(0, outputs.shape[0]), targets, weights)
    log_odds, difference = _Pass(queries, outputs, targets).odds()
    loss = weights @ softplus(log_odds, threshold=40)
    return loss, difference.mul_((weights * log_odds.sigmoid())[:, None])


def hvp(
    queries: Tensor, directions: Tensor, outputs: Table, targets: Tensor, weights: Tensor
) -> Tensor:
    """The Hessian of the weighted loss by the queries, times `directions` (B, d)."""
    if outputs.is_one_part:
        return softmax_hvp(queries, directions, outputs.part(0, outputs.shape[0]), targets, weights)
    run = _Pass(queries, outputs, targets)
    log_odds, difference = run.odds()
    product = run.covariance(directions, log_odds, difference)
    along = (difference * directions).sum(1) * (-log_odds).sigmoid()
    hessian = product.addcmul_(difference, along[:, None])
    return hessian.mul_((weights * log_odds.sigmoid())[:, None])


def retrieve(queries: Tensor, outputs: Table, targets: Tensor) -> Retrieval:
    """How each query retrieves its target."""
    if outputs.is_one_part:
        return retrieval(queries, outputs.part(0, outputs.shape[0]), targets)
    log_odds, target_logit, margin, rank = _Pass(queries, outputs, targets).ranks()
    loss = softplus(log_odds, threshold=40)
    return Retrieval(target_logit + loss, target_logit, margin, rank, loss)


class _Pass:
    """Passes of some queries (B, d), with targets (B,), over the parts of a table."""

    def __init__(self, queries: Tensor, outputs: Table, targets: Tensor) -> None:
        self._backend = select_backend(queries, None, None)
        self._queries, self._outputs, self._targets = queries, outputs, targets
        # for a finish the own outputs of the queries are enough
        self._own = outputs.rows(targets), torch.arange(len(targets), device=targets.device)

    def odds(self) -> tuple[Tensor, Tensor]:
        """The log-odds (B,) of the others against the target, and its gradient (B, d)."""
        partial = self._combine(
            lambda part, targets: self._backend.partial_odds(self._queries, part, targets)
        )
        log_odds, difference, _ = self._backend.finish_odds(partial, self._queries, *self._own)
        return log_odds, difference

    def covariance(self, directions: Tensor, log_odds: Tensor, difference: Tensor) -> Tensor:
        """The covariance (B, d) of the others along the directions, from the results of `odds`."""
        context = self._backend.hvp_context(
            self._queries, directions, *self._own, log_odds.clone(), difference
        )
        partial = self._combine(
            lambda part, targets: self._backend.partial_covariance(
                self._queries, part, targets, context
            )
        )
        return self._backend.finish_covariance(partial, context)

    def ranks(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-odds, logit of the target, margin and rank, (B,) each."""
        target_logit = self._backend.target_logits(self._queries, *self._own)
        partial = self._combine(
            lambda part, targets: self._backend.partial_ranks(
                self._queries, part, targets, target_logit
            )
        )
        return self._backend.finish_ranks(partial, target_logit)

    def _combine(self, partial_of: Callable[[Tensor, Tensor], Partial]) -> Partial:
        """The partial result over all parts, as one."""
        partials = self._outputs.map_parts(
            lambda start, part: self._backend.combine(partial_of(part, self._targets - start))
        )
        return reduce(lambda one, other: self._backend.combine(merge([one, other])), partials)
