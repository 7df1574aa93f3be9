"""`python -m bench.replicates FOLDER FOLDER`: how well two leaderboards on other seeds agree.

Two boards agree on a pair of optimizers if the same one has the larger score. Kendall's tau is over
all pairs, and over those that the test distinguishes on at least one of the boards.
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from memsolve.engine.results.load import load_summary
from memsolve.study.leaderboard.comparison import Blocks, differences
from memsolve.study.leaderboard.conclusions import track_blocks
from memsolve.study.leaderboard.leaderboard import leaderboard


class Replication(NamedTuple):
    """The agreement of two boards over some pairs of optimizers.

    Attributes:
        concordant, discordant: number of pairs in the same and in the other order. A pair that
            is equal on a board is neither.
        pairs: number of all pairs.
    """

    concordant: int
    discordant: int
    pairs: int

    @property
    def tau(self) -> float:
        """Kendall's tau-a; NaN without pairs."""
        return (self.concordant - self.discordant) / self.pairs if self.pairs else float("nan")

    def __str__(self) -> str:
        """As `0.93 (270 pairs)`."""
        return f"{self.tau:.2f} ({self.pairs} pairs)"


def replication(first: Blocks, second: Blocks, *, distinguished: bool) -> Replication:
    """The agreement of two boards on a track, over the optimizers that both have.

    Args:
        first, second: the blocks of the boards.
        distinguished: whether only pairs count that the test distinguishes on at least one board.
    """
    common = [name for name in first.names if name in second.names]
    pairs = {frozenset(pair) for pair in combinations(common, 2)}
    if distinguished:
        pairs &= _significant_pairs(first) | _significant_pairs(second)
    signs = [_order(first, pair) * _order(second, pair) for pair in map(sorted, pairs)]
    return Replication(sum(s > 0 for s in signs), sum(s < 0 for s in signs), len(signs))


def _significant_pairs(track: Blocks) -> set[frozenset[str]]:
    return {
        frozenset((each.first, each.second)) for each in differences(track) if each.is_significant
    }


def _order(track: Blocks, pair: list[str]) -> int:
    first, second = (track.means[track.names.index(name)] for name in pair)
    return int(np.sign(np.round(first - second, 12)))


def main() -> int:
    """Print a row for each track that both boards have."""
    parser = argparse.ArgumentParser(prog="python -m bench.replicates", description=__doc__)
    parser.add_argument("folders", type=Path, nargs=2)
    boards = [
        track_blocks(load_summary(leaderboard, folder).fits)
        for folder in parser.parse_args().folders
    ]
    table = Table("track", "tau, all pairs", "tau, distinguished pairs")
    for track in (track for track in boards[0] if track in boards[1]):
        both = boards[0][track], boards[1][track]
        results = [replication(*both, distinguished=each) for each in (False, True)]
        table.add_row(track, *map(str, results))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
