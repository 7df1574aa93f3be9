"""Softmax passes of queries over a table of outputs, which need not be held.

A table of one part goes to the functions of `memsolve_kernels`. Of a larger one every part is a
shard, whose partial result is combined with that of the parts before it.
"""

from collections.abc import Iterator

from memsolve_kernels import Retrieval, retrieval, softmax_gradient, softmax_hvp
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.shards import Shard, ShardPasses
from torch import Tensor
from torch.nn.functional import softplus

from memsolve.tables import Table

QUERIES = 1 << 14
"""Queries of a pass over several parts: of each, a few sums of `d` numbers are kept meanwhile."""


def gradient(
    queries: Tensor, outputs: Table, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted loss, a scalar, and its gradient by the queries (B, d)."""
    if outputs.is_one_part:
        return softmax_gradient(queries, outputs.part(0, outputs.shape[0]), targets, weights)
    own = outputs.rows(targets)
    log_odds, difference, _ = _passes(queries).odds(queries, _shards(outputs), targets, own)
    loss = weights @ softplus(log_odds, threshold=40)
    return loss, difference.mul_((weights * log_odds.sigmoid())[:, None])


def hvp(
    queries: Tensor, directions: Tensor, outputs: Table, targets: Tensor, weights: Tensor
) -> Tensor:
    """The Hessian of the weighted loss by the queries, times `directions` (B, d)."""
    if outputs.is_one_part:
        return softmax_hvp(queries, directions, outputs.part(0, outputs.shape[0]), targets, weights)
    passes, own = _passes(queries), outputs.rows(targets)
    log_odds, difference, _ = passes.odds(queries, _shards(outputs), targets, own)
    product = passes.covariance(
        queries, directions, _shards(outputs), targets, own, log_odds.clone(), difference
    )
    along = (difference * directions).sum(1) * (-log_odds).sigmoid()
    hessian = product.addcmul_(difference, along[:, None])
    return hessian.mul_((weights * log_odds.sigmoid())[:, None])


def retrieve(queries: Tensor, outputs: Table, targets: Tensor) -> Retrieval:
    """How each query retrieves its target."""
    if outputs.is_one_part:
        return retrieval(queries, outputs.part(0, outputs.shape[0]), targets)
    own = outputs.rows(targets)
    log_odds, target_logit, margin, rank = _passes(queries).ranks(
        queries, _shards(outputs), targets, own
    )
    loss = softplus(log_odds, threshold=40)
    return Retrieval(target_logit + loss, target_logit, margin, rank, loss)


def _passes(queries: Tensor) -> ShardPasses:
    return ShardPasses(select_backend(queries, None, None))


def _shards(outputs: Table) -> Iterator[Shard]:
    return (Shard(start, outputs.part(start, stop)) for start, stop in outputs.bounds)
