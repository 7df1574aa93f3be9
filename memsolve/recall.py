"""The items that a weight recovers, without computing all their logits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from memsolve.tables import Table, rows_at_once

MAX_TILE_LOGITS = 1 << 22
FIRST_TILE = 128


@dataclass(frozen=True)
class Recall:
    """Result of an evaluation.

    Attributes:
        items: (M,) int64, the distinct evaluated items, increasing.
        recovered: (M,) bool, whether the largest logit of an item is its own.
    """

    items: Tensor
    recovered: Tensor

    @property
    def count(self) -> int:
        """Number of items recovered."""
        return int(self.recovered.sum())

    def top_rank(self, share: float = 0.99) -> int:
        """Highest recovered rank `k` such that `share` of the `k` most frequent items is recovered.

        Items that were not evaluated count as not recovered.
        """
        ranks = self.items[self.recovered] + 1
        hits = torch.arange(1, len(ranks) + 1, device=ranks.device)
        reached = ranks[hits >= share * ranks]
        return int(reached[-1]) if len(reached) else 0


@dataclass(frozen=True)
class Survivors:
    """Queries whose target's logit is above that of every rival so far.

    A query is dropped at the first logit above that of its target. An item that is not recovered is
    ruled out by its first few hundred rivals, so the cost is about `2 M d` times a few hundred
    flops, plus `2 N d` per recovered item, instead of `2 M N d`.

    Attributes:
        positions: (S,) int64, among all queries, increasing.
        queries: (S, d).
        targets: (S,) int64.
        target_logits: (S,).
        tile: rivals to be compared at once, at first few.
    """

    positions: Tensor
    queries: Tensor
    targets: Tensor
    target_logits: Tensor
    tile: int = FIRST_TILE

    @classmethod
    def of(cls, queries: Tensor, own: Tensor, targets: Tensor, first: int = 0) -> Self:
        """All queries at the start.

        Args:
            queries: (M, d).
            own: (M, d), the outputs of their targets, which are overwritten.
            targets: (M,) int64.
            first: position of the first query.
        """
        positions = torch.arange(first, first + len(queries), device=queries.device)
        return cls(positions, queries, targets, own.mul_(queries).sum(1))

    def against(self, rivals: Tensor, start: int) -> Self:
        """Those that remain after the outputs (R, d) of items from `start` on."""
        left, begin = self, 0
        while begin < len(rivals) and len(left):
            stop = begin + min(left.tile, max(FIRST_TILE, MAX_TILE_LOGITS // len(left)))
            left = left._against_tile(rivals[begin:stop], start + begin)
            begin = stop
        return left

    def _against_tile(self, rivals: Tensor, start: int) -> Self:
        logits = self.queries @ rivals.T
        own = self.targets - start
        inside = ((own >= 0) & (own < len(rivals))).nonzero()[:, 0]
        logits[inside, own[inside]] = -torch.inf
        alive = (logits < self.target_logits[:, None]).all(1)
        return replace(self.select(alive), tile=2 * self.tile)

    def select(self, which: Tensor) -> Self:
        """Some of them, by a mask (S,)."""
        return self._map(lambda column: column[which])

    def join(self, other: Self) -> Self:
        """These and later ones."""
        columns = iter(other._columns())
        joined = self._map(lambda column: torch.cat((column, next(columns))))
        return replace(joined, tile=max(self.tile, other.tile))

    def _columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.positions, self.queries, self.targets, self.target_logits

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        positions, queries, targets, target_logits = map(function, self._columns())
        return type(self)(positions, queries, targets, target_logits, self.tile)

    def __len__(self) -> int:
        return len(self.positions)


def recovered(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether each query's largest logit is its target's, strictly.

    Args:
        queries: (M, d).
        outputs: (N, d), the rivals, of the same dtype.
        targets: (M,) int64 in `[0, N)`.

    Returns:
        (M,) bool. A tie is not a recovery, so `W = 0` recovers nothing.
    """
    survivors = Survivors.of(queries, outputs[targets], targets).against(outputs, 0)
    return _mask(len(queries), survivors.positions)


def recovered_items(weight: Tensor, inputs: Table, outputs: Table, items: Tensor) -> Tensor:
    """Whether `weight` (d, d) recovers each of the items (M,); see `recovered`.

    The items of each part meet the outputs of the first part, which drops most. Those that remain,
    of many parts, then meet the other outputs together, which are drawn no more often.
    """
    size = rows_at_once(*inputs.row)
    first = outputs.part(*outputs.bounds[0])
    mask = torch.zeros(len(items), dtype=torch.bool, device=items.device)
    waiting: Survivors | None = None
    for index, chunk in enumerate(items.split(size)):
        queries = inputs.rows(chunk) @ weight.T
        survivors = Survivors.of(queries, outputs.rows(chunk), chunk, index * size)
        del queries
        survivors = survivors.against(first, 0)
        waiting = survivors if waiting is None else waiting.join(survivors)
        if len(waiting) >= size or index * size + len(chunk) == len(items):
            mask[_against_others(waiting, outputs)] = True
            waiting = None
    return mask


def _against_others(survivors: Survivors, outputs: Table) -> Tensor:
    """The positions of those that remain after all parts but the first."""
    for start, stop in outputs.bounds[1:]:
        if not len(survivors):
            break
        survivors = survivors.against(outputs.part(start, stop), start)
    return survivors.positions


def _mask(size: int, positions: Tensor) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool, device=positions.device)
    mask[positions] = True
    return mask
