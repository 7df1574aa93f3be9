"""Exponents and crossings on data whose truth is known."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from memsolve.engine.results.estimate import (
    COUNT,
    EQUAL_SEEDS,
    POSITIVE,
    REAL,
    SHARE,
    Estimate,
    Floats,
    jackknife,
    mean,
    power_law_exponent,
)
from memsolve.study.one_step.crossing import Crossing

DIMS = [64, 128, 256]


def averages(counts: Floats) -> Floats:
    result: Floats = counts.mean(1)
    return result


def fitted(samples: list[Floats]) -> Estimate:
    return power_law_exponent(DIMS, samples, [averages] * len(DIMS))


def coverage(found: Sequence[Estimate], truth: float) -> float:
    """Share of the intervals that hold the truth."""
    known = [(each.low, each.high) for each in found if each.low is not None]
    return float(np.mean([low <= truth <= (high or 0) for low, high in known]))


@given(st.floats(-1, 3), st.floats(0.1, 100))
def test_an_exact_power_law_is_found_and_its_seeds_agree(exponent: float, scale: float) -> None:
    estimate = fitted([np.full(4, scale * dim**exponent) for dim in DIMS])
    assert estimate.value == pytest.approx(exponent, abs=1e-9)
    assert (estimate.low, estimate.high, estimate.note) == (None, None, EQUAL_SEEDS)


SEEDS = [2, 3, 5, 10]
TRIALS = 2000
"""The standard error of a coverage of 95% is 0.5%."""

SPREAD = 0.3
"""Of the logarithm of log-normal data, and relative to the mean of normal data. Of the recorded
counts above 10, nine in ten vary by less from seed to seed."""

LAWS = {
    "normal": lambda generator, size: generator.normal(1, SPREAD, size),
    "log-normal": lambda generator, size: generator.lognormal(-(SPREAD**2) / 2, SPREAD, size),
}


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("law", LAWS)
def test_intervals_of_means_cover(law: str, seeds: int) -> None:
    data = LAWS[law](np.random.default_rng(0), (TRIALS, seeds))
    assert 0.93 <= coverage([mean(values) for values in data], 1) <= 0.985


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("law", LAWS)
def test_intervals_of_slopes_cover(law: str, seeds: int) -> None:
    """Of normal data that are positive: what is 3 standard deviations below is so rare."""
    generator = np.random.default_rng(0)
    data = np.abs(LAWS[law](generator, (TRIALS, len(DIMS), seeds)))
    truth = [dim**1.3 for dim in DIMS]
    found = [fitted([*(each * np.array(truth)[:, None])]) for each in data]
    assert 0.93 <= coverage(found, 1.3) <= 0.985


@pytest.mark.parametrize("seeds", SEEDS)
def test_intervals_of_a_ratio_on_the_same_seeds_cover(seeds: int) -> None:
    """Counts of two optimizers on one memory, which vary jointly."""
    generator = np.random.default_rng(0)
    memory = generator.lognormal(0, 0.1, (TRIALS, seeds, 1))
    pairs = memory * [150, 500] * generator.lognormal(0, 0.08, (TRIALS, seeds, 2))
    found = [
        jackknife([each], lambda draws: np.divide(*draws[0].sum(1).T), COUNT) for each in pairs
    ]
    assert 0.93 <= coverage(found, 0.3) <= 0.985


def test_a_mean_has_students_interval() -> None:
    values = np.array([3.0, 5.0, 10.0])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    found = mean(values, REAL)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert mean(values).low == 0  # a count is no less


def test_groups_depend_on_each_other_by_the_seed() -> None:
    """What raises a seed at every `d` alike says nothing against the slope."""
    memory = np.array([1.0, 1.5, 0.7])
    found = fitted([dim**1.3 * memory for dim in DIMS])
    assert found.note == EQUAL_SEEDS
    assert fitted([DIMS[0] * memory, DIMS[1] * memory, DIMS[2] * memory[::-1]]).low is not None


def test_an_interval_of_factors_is_symmetric_in_logarithms() -> None:
    found = mean([10.0, 40.0], POSITIVE)
    assert found.value == 25
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high == pytest.approx(25**2)


def test_seeds_that_agree_have_no_interval_and_one_that_differs_gives_one() -> None:
    assert mean([7, 7, 7]) == Estimate(7.0, note=EQUAL_SEEDS)
    assert mean([7, 7, 8]).low is not None
    assert str(mean([1, 1], SHARE)) == f"1.00 ({EQUAL_SEEDS})"
    assert mean([0.9, 1.0], SHARE).high == 1


def test_groups_of_different_seeds_have_no_interval() -> None:
    found = fitted([np.array([64.0, 65]), np.array([128.0, 129]), np.array([256.0, 255, 250])])
    assert found.value is not None
    assert (found.low, found.note) == (None, "no interval: the numbers of seeds differ")


def test_what_cannot_be_estimated_says_why() -> None:
    one_dim = power_law_exponent([64], [np.ones(3)], [averages])
    assert one_dim == Estimate(None, note="one dimension, no slope")
    one_seed = fitted([np.array([float(dim)]) for dim in DIMS])
    assert one_seed.value == pytest.approx(1)
    assert (one_seed.low, one_seed.note) == (None, "one seed, no interval")
    assert fitted([np.zeros(3) for _ in DIMS]) == Estimate(None, note="not identified")
    sometimes_zero = fitted([np.array([0.0, 0.0, 5.0]) for _ in DIMS])  # zero without the third
    assert sometimes_zero.value is not None
    assert (sometimes_zero.low, sometimes_zero.high) == (None, None)
    assert "no interval" in sometimes_zero.note


@pytest.fixture(scope="module")
def crossing() -> Crossing:
    return Crossing(1.5, 2000, [2**octave for octave in range(13)])


def saturating(crossing: Crossing, rise: float, plateau: float, seeds: int = 4) -> Floats:
    row = np.append(np.minimum(rise * crossing.distinct, plateau), plateau)
    return np.tile(row, (seeds, 1))


@pytest.mark.parametrize("rise", [0.5, 1.0])
@pytest.mark.parametrize("batch_size", [16, 64, 512])
def test_a_sharp_crossing_is_found(crossing: Crossing, rise: float, batch_size: int) -> None:
    plateau = rise * crossing.distinct[int(np.log2(batch_size))]
    point = crossing.point(8, saturating(crossing, rise, plateau))
    assert point.value == pytest.approx(batch_size, rel=1e-3)
    assert point.rise == pytest.approx(rise)


def test_an_overshoot_above_the_plateau_does_not_move_the_crossing(crossing: Crossing) -> None:
    counts = saturating(crossing, 1.0, 30.0)
    bump = counts.copy()
    bump[:, 7:10] *= 1.5
    assert crossing.point(8, bump).value == crossing.point(8, counts).value


def test_the_plateau_is_the_populations_and_the_rise_is_taken_below_half_of_it(
    crossing: Crossing,
) -> None:
    counts = saturating(crossing, 1.0, 30.0)
    bent = counts.copy()
    bent[:, :-1] *= np.where(crossing.distinct > 15.0, 0.7, 1.0)
    bent[:, -2] = 99.0
    assert crossing.point(8, bent).value == crossing.point(8, counts).value
    assert crossing.point(8, bent).peak == 99.0


def test_a_crossing_near_the_edge_is_not_identified(crossing: Crossing) -> None:
    for plateau in (2.0, crossing.distinct[-2], 10 * crossing.distinct[-1], 0.0):
        point = crossing.point(8, saturating(crossing, 1.0, plateau))
        assert point.value is None
        assert "not identified" in point.note


def test_one_seed_gives_a_crossing_without_interval(crossing: Crossing) -> None:
    point = crossing.point(8, saturating(crossing, 1.0, 30.0, seeds=1))
    assert point.value is not None
    assert point.low is None


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("plateau", "spread"), [(30, 0.15), (100, 0.08)])
def test_intervals_of_crossings_cover(plateau: float, spread: float, seeds: int) -> None:
    """Of whole counts that vary as those on record do."""
    crossing = Crossing(1.5, 8000, [2**octave for octave in range(15)])
    rounded = ((0.95 * crossing.distinct) ** -6.0 + plateau**-6.0) ** (-1 / 6)  # a smooth corner
    means = np.append(rounded, plateau)
    truth = float(crossing(means[None, None])[0])
    generator = np.random.default_rng(0)
    draws = np.round(means * generator.lognormal(-(spread**2) / 2, spread, (300, seeds, 16)))
    found = [crossing.point(8, each).estimate for each in draws]
    assert np.mean([each.low is not None for each in found]) > 0.9
    assert 0.92 <= coverage(found, truth) <= 0.995  # of 300; 94 to 97% of 3,000


def test_a_crossing_is_not_judged_by_the_width_of_its_interval(crossing: Crossing) -> None:
    """Of two seeds most intervals are wide; those within the grid alone would cover too rarely."""
    counts = saturating(crossing, 1.0, 30.0, seeds=2)
    counts[0, -1] = 20
    point = crossing.point(8, counts)
    assert point.value is not None
    assert point.low is not None
    assert point.high is not None
    assert point.low < crossing.batch_sizes[0] * 4
    assert point.high == crossing.batch_sizes[-1]  # or beyond
