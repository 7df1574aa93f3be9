"""The items that a weight recovers, without computing all their logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

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


def recovered(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether each query's largest logit is its target's, strictly.

    The outputs are processed in growing tiles, and a query is dropped at the first logit above that
    of its target. An item that is not recovered is ruled out by its first few hundred rivals, so
    the cost is about `2 M d` times a few hundred flops, plus `2 N d` per recovered item, instead of
    `2 M N d`.

    Args:
        queries: (M, d).
        outputs: (N, d), the rivals, of the same dtype.
        targets: (M,) int64 in `[0, N)`.

    Returns:
        (M,) bool. A tie is not a recovery, so `W = 0` recovers nothing.
    """
    target_logits = (queries * outputs[targets]).sum(1)
    alive = torch.arange(len(queries), device=queries.device)
    start, tile = 0, FIRST_TILE
    while start < len(outputs) and len(alive):
        stop = start + min(tile, max(FIRST_TILE, MAX_TILE_LOGITS // len(alive)))
        rivals = outputs[start:stop]
        logits = queries[alive] @ rivals.T
        own = targets[alive] - start
        inside = ((own >= 0) & (own < len(rivals))).nonzero()[:, 0]
        logits[inside, own[inside]] = -torch.inf
        alive = alive[(logits < target_logits[alive, None]).all(1)]
        start, tile = stop, 2 * tile
    mask = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    mask[alive] = True
    return mask
