"""Kendall's tau of two orders, and its interval."""

import math

import numpy as np
import pytest
from memsolve_kernels.errors import InputError
from scipy.stats import kendalltau

from memsolve.study.leaderboard.agreement import agreement_by_track, interval, order_agreement
from tests.memsolve.report_cases import board_fit


def test_the_agreement_of_two_orders() -> None:
    ours = {"a": 1.0, "b": 2.0, "c": 3.0, "mine": 9.0}
    same = order_agreement(ours, {"a": 10, "b": 20, "c": 30})
    assert same.tau == pytest.approx(1)
    assert same.num_common == 3
    assert order_agreement(ours, {"c": 10, "b": 20, "a": 30, "theirs": 0}).tau == pytest.approx(-1)
    with pytest.raises(InputError, match="1 optimizers are in both"):
        order_agreement(ours, {"a": 1})


def test_the_interval_covers_the_tau_of_correlated_pairs() -> None:
    correlation, num, repetitions = 0.6, 12, 1500
    truth = 2 / math.pi * math.asin(correlation)  # of a bivariate normal distribution
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(repetitions):
        first, noise = generator.standard_normal((2, num))
        second = correlation * first + math.sqrt(1 - correlation**2) * noise
        low, high = interval(float(kendalltau(first, second)[0]), num)
        covered += low <= truth <= high
    assert 0.93 < covered / repetitions < 0.99


@pytest.mark.parametrize("num", [5, 10, 27])
def test_the_interval_of_equal_orders_ends_at_one(num: int) -> None:
    low, high = interval(1.0, num)
    assert high == 1
    assert -1 < low < 1
    assert interval(-1.0, num) == pytest.approx((-1, -low))
    assert low < interval(1.0, num + 1)[0]


def test_few_optimizers_or_equal_values_tell_nothing() -> None:
    assert interval(0.5, 4) == interval(math.nan, 20) == (-1, 1)


def test_each_ranked_track_has_its_agreement() -> None:
    counts = {"a": [[8, 9], [1, 2]], "b": [[5, 6], [3, 4]], "c": [[1, 2], [5, 6]]}
    fits = [board_fit(name, 1.5, recovered) for name, recovered in counts.items()]
    agreements = agreement_by_track({"a": 3.0, "b": 2.0, "c": 1.0, "other": 9.0}, fits)
    taus = {track: each.tau for track, each in agreements.items()}
    assert taus == {"one-step": pytest.approx(1), "full-gradient": pytest.approx(-1)}
    assert all(each.num_common == 3 for each in agreements.values())
