"""The agreement of two leaderboards on other seeds."""

import math

import numpy as np

from bench.replicates import Replication, replication
from memsolve.study.leaderboard.comparison import Blocks


def board(scores: dict[str, float], noise: float = 0.0, seeds: int = 5) -> Blocks:
    """A board with one `d` whose scores differ between seeds by that noise."""
    generator = np.random.default_rng(0)
    values = np.array(list(scores.values())) + noise * generator.standard_normal(
        (seeds, len(scores))
    )
    values += np.array(list(scores.values())) - values.mean(0)
    return Blocks(list(scores), np.ones(1), values[None])


def test_all_pairs_of_the_same_order_agree() -> None:
    first = board({"a": 0.5, "b": 0.4, "c": 0.1})
    second = board({"c": 0.2, "a": 0.9, "b": 0.3, "other": 1.0})
    assert replication(first, second, distinguished=False) == Replication(3, 0, 3)
    reversed_order = board({"a": 0.1, "b": 0.2, "c": 0.3})
    assert replication(first, reversed_order, distinguished=False).tau == -1


def test_equal_scores_agree_with_neither_order() -> None:
    first, second = board({"a": 0.5, "b": 0.4}), board({"a": 0.3, "b": 0.3})
    assert replication(first, second, distinguished=False) == Replication(0, 0, 1)


def test_pairs_within_the_noise_do_not_count_as_distinguished() -> None:
    scores = {"a": 0.500, "b": 0.499, "c": 0.1}
    first = board(scores, noise=0.01)
    second = board({"a": 0.499, "b": 0.500, "c": 0.1}, noise=0.01)
    assert replication(first, second, distinguished=False) == Replication(2, 1, 3)
    assert replication(first, second, distinguished=True) == Replication(2, 0, 2)
    assert math.isnan(replication(board({"a": 1}), board({"a": 1}), distinguished=True).tau)
