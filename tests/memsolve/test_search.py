"""The search over learning rate and ratio: its budget, its reach, and what it finds."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsolve.engine.results.load import load_summary
from memsolve.engine.run import run
from memsolve.study.training.dynamics import dynamics
from memsolve.study.training.grid import Candidate, TrainingGrid, mean_lr
from memsolve.study.training.search import (
    BOX,
    FIRST,
    SEARCH_BUDGET,
    candidates_of,
    first_candidates,
    next_candidates,
)
from memsolve.study.training.selection import edges_of
from memsolve.training import SCHEDULES, mean_factor, schedule_factor

Score = Callable[[float, float], float]
"""Of the base 2 logarithms of the mean learning rate and of the growth."""


def coordinates(candidate: Candidate, unit: float, steps: int) -> tuple[float, float]:
    mean = math.log2(mean_lr(candidate, steps) / unit)
    return mean, (steps - 1) * math.log2(candidate.ratio)


def searched(score: Score, unit: float = 1.0, steps: int = 10) -> list[Candidate]:
    """All candidates of a search, the best last."""

    def value(candidate: Candidate) -> float:
        return score(*coordinates(candidate, unit, steps))

    tried = first_candidates(unit, steps)
    while new := next_candidates(max(tried, key=value), tried, steps):
        tried += new
    return sorted(tried, key=value)


def test_the_geometric_schedule_multiplies_and_its_mean_is_the_mean() -> None:
    factors = [schedule_factor("geometric", step, 5, 1.5) for step in range(5)]
    assert factors == [1, 1.5, 2.25, 3.375, 5.0625]
    assert mean_factor("geometric", 5, 1.5) == pytest.approx(sum(factors) / 5)
    constant = [schedule_factor("geometric", step, 5) for step in range(5)]
    assert constant == [schedule_factor("constant", step, 5) for step in range(5)]
    for schedule in SCHEDULES:
        assert schedule_factor(schedule, 0, 5, 1.5) == 1


@pytest.mark.parametrize("steps", [2, 3, 10, 1000])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_first_candidates_spread_over_the_box(unit: float, steps: int) -> None:
    candidates = first_candidates(unit, steps)
    assert len(set(candidates)) == FIRST
    columns = zip(*(coordinates(each, unit, steps) for each in candidates), strict=True)
    for values, (low, high) in zip(columns, BOX, strict=True):
        assert low - 0.1 < min(values) < low + (high - low) / 6
        assert high + 0.1 > max(values) > high - (high - low) / 6


@given(
    mean=st.floats(-3, 7),
    growth=st.floats(-8, 12),
    tilt=st.floats(-0.5, 0.5),
    steps=st.sampled_from([2, 6, 50]),
)
def test_the_search_has_one_budget_and_approaches_an_optimum_even_outside_the_box(
    mean: float, growth: float, tilt: float, steps: int
) -> None:
    def score(x: float, y: float) -> float:
        u, v = x - mean, (y - growth) / 2
        return -(u * u + v * v + tilt * u * v)

    tried = searched(score, steps=steps)
    assert len(set(tried)) == len(tried) == SEARCH_BUDGET
    x, y = coordinates(tried[-1], 1.0, steps)
    assert abs(x - mean) < 2
    assert abs(y - growth) < 4


def test_the_candidates_scale_with_the_unit() -> None:
    one, other = first_candidates(1.0, steps=10), first_candidates(1024.0, steps=10)
    for small, large in zip(one, other, strict=True):
        assert small.ratio == large.ratio
        assert large.lr / small.lr == pytest.approx(1024, rel=0.1)  # two digits


def test_a_single_step_has_no_growth() -> None:
    tried = searched(lambda x, _: -abs(x - 1), steps=1)
    assert {candidate.ratio for candidate in tried} == {1.0}
    assert len(tried) <= SEARCH_BUDGET


def test_learning_rates_of_the_user_are_combined_with_growths() -> None:
    candidates = candidates_of([0.1, 1.0], steps=3)
    assert {candidate.lr for candidate in candidates} == {0.1, 1.0}
    ratios = sorted({candidate.ratio for candidate in candidates})
    assert ratios == [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32]
    assert len(candidates) == 18
    assert len(candidates_of([0.1], steps=1)) == 1


def test_edges_are_found_in_both_coordinates_and_both_directions() -> None:
    def geometric(lr: float, ratio: float) -> Candidate:
        return Candidate("geometric", lr, ratio)

    low, high = geometric(1.0, 0.5), geometric(1.0, 2.0)
    inside, constant = geometric(1.0, 1.0), Candidate("constant", 99.0)
    every = [low, high, inside, constant]
    assert edges_of(low, every, 5) == ("smallest learning rate", "smallest ratio")
    assert edges_of(high, every, 5) == ("largest learning rate", "largest ratio")
    assert edges_of(inside, every, 5) == ()
    assert edges_of(constant, every, 5) == ()
    fast = geometric(31.0, 0.5)  # its mean is above that of `high`, which grows
    assert edges_of(fast, [*every, fast], 5) == ("largest learning rate", "smallest ratio")
    assert edges_of(high, [*every, fast], 5) == ("largest ratio",)


def test_sgd_needs_learning_rates_that_grow() -> None:
    grid = TrainingGrid(("sgd",), dims=(32,), num_items=512, seeds=1, steps=10, device="cpu")
    constant = TrainingGrid(**vars(grid) | {"schedules": ("constant",)})
    (growing,), (steady,) = (run(dynamics, each).fits[0].points for each in (grid, constant))
    assert growing.ratio > 1
    assert len(growing.trial_ratios) == SEARCH_BUDGET
    assert mean_of(growing.plateau) > 1.3 * mean_of(steady.plateau)
    assert "geometric, learning rate" in dynamics.detail(growing)


def mean_of(values: list[int]) -> float:
    return sum(values) / len(values)


def test_a_summary_without_ratios_loads(tmp_path: Path) -> None:
    grid = TrainingGrid(("sgd",), dims=(8,), seeds=1, steps=2, schedules=("constant",))
    run(dynamics, grid, tmp_path)
    path = tmp_path / "summary.json"
    summary = json.loads(path.read_text())
    for name in ("ratio", "edges", "trial_ratios"):
        del summary["fits"][0]["points"][0][name]
    path.write_text(json.dumps(summary))
    point = load_summary(dynamics, tmp_path).fits[0].points[0]
    assert {candidate.ratio for candidate in point.candidates} == {1.0}
    assert point.candidate in point.candidates
