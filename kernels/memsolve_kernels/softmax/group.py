"""Outputs that are sharded over the ranks of a process group, with the same queries on every rank.

A pass exchanges each query's own output, and one part of a partial result per rank; the parts are
merged in the order of ranks. The gradient by the outputs exchanges nothing.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.softmax.agreement import agree
from memsolve_kernels.softmax.checks import Arguments, check_all_items
from memsolve_kernels.softmax.partials import LogitWeights, Partial
from memsolve_kernels.softmax.placement import ranks_of, to_local
from memsolve_kernels.softmax.rows import entropies
from memsolve_kernels.softmax.shards import Shard, ShardPasses

GATHERED_BYTES = 2**28  # of the partial results of all ranks at a time


@dataclass(frozen=True)
class GroupPasses(ShardPasses):
    """Passes over the shards of all ranks of a group, each of which iterates over its own.

    Attributes:
        group: of the ranks.
    """

    group: dist.ProcessGroup

    def find_outputs(self, shards: Any, queries: Tensor, targets: Tensor) -> Tensor:
        """The targets' own outputs (B, d), as the sum over ranks: all but one have zeros."""
        own = super().find_outputs(shards, queries, targets)
        if own.numel():
            dist.all_reduce(own.view(torch.uint8), group=self.group)  # bytes: every bit is kept
        return own

    def gather(self, partial: Partial) -> Partial:
        """The parts of all ranks, in their order, by one collective of bytes."""
        size, fields = self.group.size(), [each.contiguous() for each in partial]
        packed = torch.cat([each.view(torch.uint8).flatten() for each in fields])
        if packed.numel() == 0:  # without queries
            return partial
        gathered = packed.new_empty(size, packed.numel())
        dist.all_gather(list(gathered), packed, group=self.group)
        columns = gathered.split([each.nbytes for each in fields], 1)
        parts = [
            column.contiguous().view(each.dtype).view(size, *each.shape[1:])
            for column, each in zip(columns, fields, strict=True)
        ]
        return type(partial)(*parts)

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """The sum of the tensors of all ranks, of one shape, in their order."""
        gathered = tensor.new_empty(self.group.size(), *tensor.shape)
        dist.all_gather(list(gathered), tensor.contiguous(), group=self.group)
        return gathered.sum(0)

    def blocks(self, queries: Tensor) -> list[slice]:
        """As many queries as `GATHERED_BYTES` hold of all ranks."""
        row = self.group.size() * (queries.shape[1] + 3) * 8
        step = max(1, GATHERED_BYTES // row)
        batch = queries.shape[0]
        return [slice(i, min(i + step, batch)) for i in range(0, max(batch, 1), step)]


@dataclass(frozen=True)
class Sharded:
    """In place of a backend's name: the operators of `ops.py` on one shard per rank.

    Attributes:
        passes: of the group.
        first: number of this rank's first item.
        num_items: of all ranks.
    """

    passes: GroupPasses
    first: int
    num_items: int

    def softmax_odds(
        self, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-odds (B,), its gradient (B, d) and the others (B, 2)."""
        targets, own = targets.long(), self._find_outputs(queries, outputs, targets)
        return self.passes.odds(queries, self._shards(outputs), targets, own)

    def softmax_covariance(
        self,
        queries: Tensor,
        directions: Tensor | None,
        outputs: Tensor,
        targets: Tensor,
        *odds: Tensor,
    ) -> Tensor:
        """The Hessian of the log-odds times `directions` (B, d), or else the queries."""
        targets, own = targets.long(), self._find_outputs(queries, outputs, targets)
        shards, (log_odds, difference) = self._shards(outputs), odds
        return self.passes.covariance(
            queries, directions, shards, targets, own, log_odds, difference
        )

    def softmax_curvature(
        self, queries: Tensor, directions: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-odds (B,), its gradient (B, d) and its Hessian times `directions` (B, d)."""
        targets, own = targets.long(), self._find_outputs(queries, outputs, targets)
        shards = self._shards(outputs)
        log_odds, difference, _ = self.passes.odds(queries, shards, targets, own)
        odds = log_odds, difference
        product = self.passes.covariance(queries, directions, shards, targets, own, *odds)
        return *odds, product

    def softmax_outputs(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        by_others: Tensor,
        by_target: Tensor | None,
        by_logit: Tensor | None,
        bias_column: int | None,
    ) -> tuple[Tensor, Tensor]:
        """The gradient (N_r, d) by this rank's outputs, in their dtype, and by their bias."""
        if outputs.shape[0] == 0:
            return torch.zeros_like(outputs), others.new_zeros(0)
        inputs = queries, outputs, targets.long() - self.first, others
        weights = LogitWeights(by_others, by_target, by_logit)
        gradient = self.passes.backend.rounded_outputs_gradient(*inputs, weights, bias_column)
        return gradient.by_outputs, gradient.by_bias

    def softmax_entropy_gradients(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
        others: Tensor,
        *rest: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The covariance of outputs and logits (B, d), and the results of `softmax_outputs`."""
        odds = log_odds, difference
        product = self.softmax_covariance(queries, None, outputs, targets, *odds)
        return product, *self.softmax_outputs(queries, outputs, targets, others, *rest)

    def softmax_entropy(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Tensor:
        """The entropy (B,) of each query's softmax."""
        return entropies(queries, log_odds, difference)

    def softmax_rank(
        self, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-odds, logit of the target, margin and rank: (B,) each."""
        targets, own = targets.long(), self._find_outputs(queries, outputs, targets)
        return self.passes.ranks(queries, self._shards(outputs), targets, own)

    def own_outputs(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """The targets' outputs (B, d)."""
        return self._find_outputs(queries, outputs, targets.long())

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """The sum of the tensors of all ranks, of one shape, in their order."""
        return self.passes.sum_over_ranks(tensor)

    def _shards(self, outputs: Tensor) -> list[Shard]:
        return [Shard(self.first, outputs)]

    def _find_outputs(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """The own outputs (B, d), NaN where the target is no item and could not be read."""
        own = self.passes.find_outputs(self._shards(outputs), queries, targets.long())
        outside = (targets < 0) | (targets >= self.num_items)
        return own.masked_fill_(outside[:, None], torch.nan)


def share(
    arguments: Arguments, group: dist.ProcessGroup | None
) -> tuple[Arguments, BackendName | Sharded | None]:
    """Check the arguments on all ranks; those with this rank's outputs, and a backend for them.

    A group of one exchanges nothing, and its backend is the given one.

    Args:
        arguments: of a public function, with a shard of the outputs, or a DTensor.
        group: of the ranks; None for a DTensor, which has its own.

    Raises:
        Exception: invalid arguments, here or on another rank.
        InputError: a subclass: arguments differ between ranks.
    """
    ranks = ranks_of(arguments.outputs, group)
    if ranks.size() == 1:
        arguments, _ = to_local(arguments, group)
        check_all_items(arguments, arguments.outputs.shape[0])
        return arguments, arguments.backend
    agreement = agree(arguments, group, ranks)
    passes = GroupPasses(agreement.backend, ranks)
    sharded = Sharded(passes, agreement.first, agreement.num_items)
    return agreement.arguments, sharded
