"""How many programs share the items of one block of queries."""

import functools
import math

FULL_ENOUGH = 0.9  # share of the processors' time that is worth no more splits
FEW = 16  # splits, when there are queries enough to fill every processor anyway


@functools.lru_cache(maxsize=4096)
def count_splits(blocks: int, tiles: int, processors: int, most: int) -> int:
    """The fewest splits that keep the processors busy, or of those allowed the best.

    Args:
        blocks: blocks of queries, each of which runs once a split.
        tiles: tiles of items that can be shared out.
        processors: programs that run at once.
        most: splits that memory allows.
    """
    limit = min(tiles, most, max(FEW, processors // blocks))
    best, best_share = 1, 0.0
    for splits in range(1, limit + 1):
        rounds = math.ceil(blocks * splits / processors) * math.ceil(tiles / splits)
        share = blocks * tiles / (processors * rounds)
        if share >= FULL_ENOUGH:
            return splits
        if share > best_share:
            best, best_share = splits, share
    return best
