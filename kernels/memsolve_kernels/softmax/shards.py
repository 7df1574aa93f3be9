"""The passes over outputs that come in shards, of which one is in memory at a time.

A shard's partial result is combined to one part, and with those of the shards before it. What a
finish needs besides is each query's own output, which `find_outputs` collects.

In one process the shards may be tiles that are drawn or read again for every pass. `group.py` has
the passes of several ranks with a shard each.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.softmax.interface import SoftmaxBackend, by_blocks
from memsolve_kernels.softmax.partials import (
    HvpContext,
    Partial,
    RankPartial,
    WeightedPartial,
    merge,
)


class Shard(NamedTuple):
    """Some of the items.

    Attributes:
        first: number of its first item.
        outputs: (S, d), which may have no items.
    """

    first: int
    outputs: Tensor


@dataclass(frozen=True)
class ShardPasses:
    """Passes over shards, for queries (B, d), targets (B,) in int64 and their own outputs (B, d).

    Results are those of `SoftmaxBackend.odds`, `covariance` and `ranks`.

    Attributes:
        backend: of each shard.
    """

    backend: SoftmaxBackend

    def find_outputs(self, shards: Iterable[Shard], queries: Tensor, targets: Tensor) -> Tensor:
        """The targets' own outputs (B, d), zero where no shard has the target."""
        own = torch.zeros_like(queries, memory_format=torch.contiguous_format)
        for first, outputs in shards:
            if len(outputs):
                place = (targets - first).clamp(0, len(outputs) - 1)
                here = place + first == targets
                own = torch.where(here[:, None], outputs[place], own)
        return own

    def odds(
        self, queries: Tensor, shards: Iterable[Shard], targets: Tensor, own: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,), their gradient (B, d) and the others (B, 2) over all shards."""

        def evaluate(rows: slice, outputs: Tensor, targets: Tensor) -> WeightedPartial:
            return self.backend.partial_odds(queries[rows], outputs, targets)

        def finish(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
            gathered = self.gather(_rows_of(partial, rows))
            return self.backend.finish_odds(gathered, queries[rows], own[rows], _count(own[rows]))

        none = WeightedPartial.of_no_items(queries)
        partial = self._combine("odds", evaluate, none, queries, shards, targets)
        return by_blocks(finish, self.blocks(queries))

    def covariance(
        self,
        queries: Tensor,
        directions: Tensor | None,
        shards: Iterable[Shard],
        targets: Tensor,
        own: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Tensor:
        """The covariance of all others along the directions (B, d), from the results of `odds`."""
        context = self.backend.hvp_context(
            queries, directions, own, _count(own), log_odds, difference
        )

        def evaluate(rows: slice, outputs: Tensor, targets: Tensor) -> WeightedPartial:
            inputs = queries[rows], outputs, targets
            return self.backend.partial_covariance(*inputs, _context_of(context, rows))

        def finish(rows: slice) -> Tensor:
            gathered = self.gather(_rows_of(partial, rows))
            return self.backend.finish_covariance(gathered, _context_of(context, rows))

        none = WeightedPartial.of_no_items(queries)
        partial = self._combine("covariance", evaluate, none, queries, shards, targets)
        return by_blocks(finish, self.blocks(queries))

    def ranks(
        self, queries: Tensor, shards: Iterable[Shard], targets: Tensor, own: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-odds, logit of the target, margin and rank over all shards, (B,) each."""
        target_logit = self.backend.target_logits(queries, own, _count(own))

        def evaluate(rows: slice, outputs: Tensor, targets: Tensor) -> RankPartial:
            return self.backend.partial_ranks(queries[rows], outputs, targets, target_logit[rows])

        none = RankPartial.of_no_items(queries)
        partial = self._combine("rank", evaluate, none, queries, shards, targets)
        return self.backend.finish_ranks(self.gather(partial), target_logit)

    def gather(self, partial: Partial) -> Partial:
        """The partial results of all processes, in their order: here, of the only one."""
        return partial

    def blocks(self, queries: Tensor) -> list[slice]:
        """Blocks of queries that are gathered and finished at a time: here, all at once."""
        return [slice(0, len(queries))]

    def _combine(
        self,
        name: str,
        evaluate: Callable[[slice, Tensor, Tensor], Partial],
        none: Partial,
        queries: Tensor,
        shards: Iterable[Shard],
        targets: Tensor,
    ) -> Partial:
        """One part of all shards, from partial results of blocks of queries; `none` without any."""
        combined = none
        for first, outputs in shards:
            if len(outputs) == 0:
                continue
            parts = [
                self.backend.combine(evaluate(rows, outputs, targets[rows] - first))
                for rows in self.backend.query_blocks(name, queries, outputs)
            ]
            del outputs  # before the next are drawn or read
            shard = parts[0] if len(parts) == 1 else _join_rows(parts)
            combined = shard if combined is none else self.backend.combine(merge([combined, shard]))
        return combined


def _rows_of(partial: Partial, rows: slice) -> Partial:
    return type(partial)(*(each[:, rows] for each in partial))


def _join_rows(partials: list[Partial]) -> Partial:
    return type(partials[0])(*(torch.cat(each, 1) for each in zip(*partials, strict=True)))


def _context_of(context: HvpContext, rows: slice) -> HvpContext:
    return HvpContext(*(None if each is None else each[rows] for each in context))  # type: ignore[arg-type]


def _count(own: Tensor) -> Tensor:
    """Targets in int64 that identify each row of the own outputs."""
    return torch.arange(own.shape[0], device=own.device)
