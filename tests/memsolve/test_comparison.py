"""Differences between optimizers on a track: the test, groups, ranks, and sentences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memsolve import InputError
from memsolve.engine.results.estimate import EQUAL_SEEDS, Floats, mean
from memsolve.study.leaderboard.comparison import (
    Blocks,
    Difference,
    blocks,
    differences,
    holm,
    indistinct,
    pair_tests,
    rank_probabilities,
    rank_ranges,
)
from memsolve.study.leaderboard.sentences import sentences

DIMS = [32, 32, 64, 64]
SPREAD = 0.03


def track(*means: float, seeds: int = 5, dims: list[int] = DIMS, seed: int = 0) -> Blocks:
    """Optimizers of these mean shares, whose memories have an effect that they share."""
    generator = np.random.default_rng(seed)
    shape = seeds, len(dims)
    common = generator.normal(0, 2 * SPREAD, (*shape, 1))
    own = generator.normal(0, SPREAD, (*shape, len(means)))
    return blocks([f"o{index}" for index in range(len(means))], dims, means + common + own)


def test_blocks_are_means_over_the_problems_of_a_memory() -> None:
    shares = np.arange(2.0 * 3 * 2).reshape(2, 3, 2)
    made = blocks(["a", "b"], [64, 32, 64], shares)
    assert made.scores.shape == (2, 2, 2)
    assert made.scores[0] == pytest.approx(shares[:, 1])  # d = 32
    assert made.scores[1] == pytest.approx(shares[:, [0, 2]].mean(1))
    assert made.means == pytest.approx(shares.mean((0, 1)))
    assert made.memories == 4
    assert made.order == ["b", "a"]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 2, 2), (0, 3, 2)])
def test_shares_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(seeds, 3, 2\)"):
        blocks(["a", "b"], [32, 32, 64], np.zeros(shape))


def test_at_one_dimension_the_test_is_that_of_paired_samples() -> None:
    made = track(0.5, 0.45, dims=[32])
    expected = stats.ttest_rel(made.column("o0")[0], made.column("o1")[0])
    assert pair_tests(made, [("o0", "o1")])[0].p == pytest.approx(expected.pvalue)
    (difference,) = differences(made)
    own, other = made.column("o0")[0], made.column("o1")[0]
    by_jackknife = mean(own - other)
    assert difference.estimate.value == pytest.approx(by_jackknife.value)
    assert difference.estimate.low == pytest.approx(by_jackknife.low)


def test_a_difference_between_dimensions_is_no_noise() -> None:
    """Between d = 32 and 64 the difference grows tenfold; only its variation over seeds counts."""
    scores = np.zeros((2, 5, 2))
    scores[:, :, 0] = np.array([[0.01], [0.10]]) + 1e-3 * np.arange(5)
    (test,) = pair_tests(Blocks(["a", "b"], np.array([0.5, 0.5]), scores), [("a", "b")])
    assert test.value == pytest.approx(0.057)
    assert test.error == pytest.approx(1e-3 * np.sqrt(2.5 / 10))
    assert test.freedom == pytest.approx(8)


def simulated(count: int, seeds: int, differing: float = 0.0) -> list[list[Difference]]:
    means = [0.5 + differing, *[0.5] * (count - 1)]
    return [differences(track(*means, seeds=seeds, seed=seed)) for seed in range(200)]


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_optimizers_are_rarely_distinguished(seeds: int) -> None:
    """In at most 5% of tracks, and the simultaneous intervals contain 0 as often."""
    tracks = simulated(5, seeds)
    assert np.mean([any(pair.is_significant for pair in pairs) for pairs in tracks]) < 0.09
    inside = [
        all(pair.estimate.low <= 0 <= pair.estimate.high for pair in pairs)  # type: ignore[operator]
        for pairs in tracks
    ]
    assert np.mean(inside) > 0.91


def test_a_better_optimizer_is_distinguished() -> None:
    """By 20%, at five seeds and two d, from all of four others in nine of ten tracks."""
    tracks = simulated(5, 5, differing=0.1)
    better = [pair for pairs in tracks for pair in pairs if "o0" in (pair.first, pair.second)]
    assert np.mean([pair.is_significant and pair.first == "o0" for pair in better]) > 0.9


def test_the_correction_is_that_of_holm() -> None:
    assert holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.04, 0.09, 0.09, None])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_agreeing_seeds_have_no_test_and_equal_optimizers_have_none_needed() -> None:
    shares = np.array([[[0.5, 0.5, 0.4]]] * 3)
    pairs = differences(blocks(["a", "b", "c"], [32], shares))
    by_pair = {(pair.first, pair.second): pair for pair in pairs}
    assert by_pair["a", "b"].p == 1
    assert by_pair["a", "c"].p is None
    assert by_pair["a", "c"].estimate.note == EQUAL_SEEDS
    assert not any(pair.is_significant for pair in pairs)


def test_one_seed_has_no_test() -> None:
    (pair,) = differences(track(0.9, 0.1, seeds=1))
    assert pair.p is None
    assert pair.estimate.note == "one seed, no interval"
    assert pair.estimate.value == pytest.approx(0.8, abs=0.3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pairs_are_distinguished_or_in_each_others_lists(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    made = track(*np.linspace(0.9, 0.3, count))
    pairs = [
        pair._replace(p=data.draw(st.sampled_from([0.001, 0.5, None])))
        for pair in differences(made)
    ]
    similar = indistinct(made, pairs)
    assert list(similar) == made.order
    for name, others in similar.items():
        assert name in others
        assert others == [other for other in made.order if other in others]
    ranges = rank_ranges(made, pairs)
    for rank, (name, (first, last)) in enumerate(ranges.items(), 1):
        assert first <= rank <= last
        assert last - first + 1 == len(similar[name])
    for pair in pairs:
        assert (pair.second in similar[pair.first]) != pair.is_significant
        assert (pair.first in similar[pair.second]) != pair.is_significant


def test_probabilities_of_ranks() -> None:
    sure = rank_probabilities(track(0.9, 0.5, 0.1))
    assert sure == pytest.approx(np.eye(3))
    doubtful = rank_probabilities(track(0.5, 0.5, 0.1))
    assert doubtful.sum(0) == pytest.approx(np.ones(3))
    assert doubtful.sum(1) == pytest.approx(np.ones(3))
    assert 0.02 < doubtful[0, 0] < 0.98
    assert doubtful[2, 2] == pytest.approx(1)
    twins = np.repeat(np.random.default_rng(0).normal(0.5, 0.1, (5, 1, 1)), 2, axis=2)
    assert rank_probabilities(blocks(["a", "b"], [32], twins)) == pytest.approx(
        np.full((2, 2), 0.5)
    )


def test_probabilities_of_ranks_are_calibrated() -> None:
    """The better of two is called so with the probability that its draws exceed the other's."""
    sure = [rank_probabilities(track(0.5, 0.5, seed=seed), 400)[0, 0] for seed in range(150)]
    assert 0.02 < np.mean(np.array(sure) > 0.95) < 0.12
    assert 0.02 < np.mean(np.array(sure) < 0.05) < 0.12


def named(names: list[str], *means: float) -> Blocks:
    return track(*means)._replace(names=names)


NAMES = ["my_module.Mine", "muon", "torch.optim.AdamW"]


def test_the_sentence_has_the_difference_its_interval_and_p() -> None:
    (text,) = sentences("full gradient", named(NAMES, 0.5, 0.5, 0.4), ["my_module.Mine"])
    assert text.startswith("On the full gradient track `Mine` recovers ")
    assert "] more items than AdamW (p < 0.001); it cannot be distinguished from muon (p = " in text
    assert text.endswith("(paired over 10 memories, Holm-corrected for 2 comparisons).")
    (worse,) = sentences("minibatch", named(NAMES, 0.2, 0.5, 0.3), ["my_module.Mine"])
    assert "] fewer items than muon (p < 0.001)" in worse
    (twice,) = sentences("one step", named(NAMES, 0.9, 0.3, 0.2), ["my_module.Mine"])
    assert "times as many items as muon" in twice


def test_sentences_need_the_optimizer_and_a_baseline() -> None:
    made = named(NAMES, 0.5, 0.4, 0.3)
    assert sentences("one step", made, []) == []
    assert sentences("one step", made, ["other"]) == []
    assert sentences("one step", made, ["my_module.Mine"], ["sgd"]) == []
    single = Blocks(NAMES, np.array([1.0]), made.scores[:1, :1])
    (text,) = sentences("one step", single, ["my_module.Mine"])
    reason = "one seed, no interval"
    assert f"cannot be distinguished from muon ({reason}) or AdamW ({reason})" in text
    both = sentences("one step", made, ["muon", "my_module.Mine"], ["torch.optim.AdamW"])
    assert len(both) == 2
    assert all("for 2 comparisons" in text for text in both)


def test_a_baseline_that_recovers_nothing_has_no_percentage() -> None:
    scores: Floats = np.zeros((1, 5, 2))
    scores[0, :, 0] = 0.5 + 0.01 * np.arange(5)
    made = Blocks(["mine", "muon"], np.array([1.0]), scores)
    (text,) = sentences("one step", made, ["mine"])
    assert "recovers more items (a share of the limit of 0.52 [0.50, 0.54]) than muon" in text
