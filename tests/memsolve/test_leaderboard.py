"""The leaderboard: its trials, its ranking, and adding an optimizer to a finished one."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memsolve import AssociativeMemory, InputError
from memsolve.cli import run_command
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import EQUAL_SEEDS, Estimate
from memsolve.engine.run import run
from memsolve.optimizers.registry import builder
from memsolve.report.table import format_point
from memsolve.study import find, load
from memsolve.study.leaderboard.cost import cost, numbers
from memsolve.study.leaderboard.grid import POPULAR, LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.point import LeaderboardPoint, LeaderboardRun, select_at
from memsolve.study.leaderboard.ranking import gaps, rank, ranking, scores
from memsolve.study.leaderboard.saturating_batch import SHARE, saturating_batch_size
from memsolve.study.training.tuning import BUDGET, WIDENINGS

SMALL = LeaderboardGrid(
    ("sgd", "muon"),
    dims=(8, 12),
    num_items=128,
    seeds=2,
    steps=12,
    schedules=("inverse",),
    batch_sizes=(16, 64),
)


def trial(lr: float, *, seed: int = 0) -> LeaderboardTrial:
    return LeaderboardTrial("sgd", 1.5, 8, 128, None, seed, "constant", lr, steps=3)


def reaching(*recovered: int) -> LeaderboardRun:
    counts = list(recovered)
    return LeaderboardRun(counts, counts, [1.0] * len(counts), 0.0, [], [])


def point(*recovered: list[int], dim: int = 8) -> LeaderboardPoint:
    horizons = [1, 10, 50][: len(recovered)]
    return LeaderboardPoint(
        dim=dim,
        num_items=128,
        limit=6.6,
        horizons=horizons,
        schedules=["constant"] * len(recovered),
        lrs=[1.0] * len(recovered),
        at_edge=[False] * len(recovered),
        recovered=[*recovered],
        curve=[float(np.mean(recovered[-1]))],
        time=[1.0],
        state=1.0,
        saturating_batch_size=Estimate(None, note="not identified"),
        total_seconds=1.0,
    )


def fit(name: str, *points: LeaderboardPoint, alpha: float = 1.5) -> Fit[LeaderboardPoint]:
    return Fit(name, alpha, "recovered", Estimate(1.0), None, [*points])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary[LeaderboardPoint]]:
    folder = tmp_path_factory.mktemp("board")
    return folder, run(leaderboard, SMALL, folder)


def cells(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "cells.jsonl").read_text().splitlines())
    return [line["cell"] for line in lines if "cell" in line]


def test_no_reported_number_is_of_a_tuning_seed(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    measured = cells(finished[0])
    assert {cell["seed"] for cell in measured} == {0, 1, 2}
    for fit in finished[1].fits:
        for point in fit.points:
            assert [len(seeds) for seeds in point.recovered] == [2, 2, 2]
    tuning = [cell for cell in measured if cell["seed"] == 0]
    assert all(cell["steps"] == (10 if cell["batch_size"] else 12) for cell in tuning)
    assert {cell["steps"] for cell in measured if cell["seed"]} == {1, 10, 12}


def test_batches_are_measured_at_the_smallest_dimension_only(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    batches = {(cell["dim"], cell["batch_size"]) for cell in cells(finished[0])}
    assert batches == {(8, 16), (8, 64), (8, None), (12, None)}
    for fit in finished[1].fits:
        assert "measured at d = 8 only" in fit.points[1].saturating_batch_size.note


def test_every_optimizer_has_the_same_budget(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    trials: dict[tuple[object, ...], int] = {}
    for cell in cells(finished[0]):
        if cell["seed"] == 0:
            key = tuple(cell[name] for name in ("optimizer", "dim", "batch_size"))
            trials[key] = trials.get(key, 0) + 1
    assert len(trials) == 8
    assert all(BUDGET <= count <= BUDGET + WIDENINGS for count in trials.values())


def test_a_resumed_leaderboard_measures_nothing_again(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    folder, summary = finished
    before = (folder / "cells.jsonl").read_text()
    again = run(leaderboard, SMALL, folder, resume=True)
    assert (folder / "cells.jsonl").read_text() == before
    assert again.fits == summary.fits
    assert load(folder)[1].fits == summary.fits


def test_another_run_gives_the_same_counts(
    finished: tuple[Path, Summary[LeaderboardPoint]], tmp_path: Path
) -> None:
    only_muon = replace(SMALL, optimizers=["muon"], dims=[8])
    again = run(leaderboard, only_muon, tmp_path)
    (muon,) = [fit for fit in finished[1].fits if fit.optimizer == "muon"]
    first, second = muon.points[0], again.fits[0].points[0]
    assert first.recovered == second.recovered
    assert first.saturating_batch_size == second.saturating_batch_size


def test_each_number_of_steps_has_its_own_best_candidate() -> None:
    runs = {
        trial(1.0): reaching(5, 6, 7),
        trial(2.0): reaching(4, 8, 9),
        trial(4.0): reaching(9, 1, 1),
        trial(8.0, seed=1): reaching(99, 99, 99),  # is for evaluation, not for tuning
    }
    assert [select_at(runs, steps).lr for steps in (1, 2, 3)] == [4.0, 2.0, 2.0]


def test_a_run_that_diverged_later_counts_where_it_had_not() -> None:
    late = replace(reaching(9, 9), diverged=True)
    runs = {trial(1.0): reaching(5, 6, 7), trial(2.0): late, trial(4.0): reaching(1, 1, 1)}
    assert [select_at(runs, steps).lr for steps in (1, 2, 3)] == [2.0, 2.0, 1.0]


SIZES = [4.0**power for power in range(6)] + [math.inf]


@settings(max_examples=50, deadline=None)
@given(st.floats(1.1, 1000), st.integers(20, 500))
def test_the_saturating_batch_size_is_exact_if_counts_grow_as_its_logarithm(
    at: float, most: int
) -> None:
    rising = [most * SHARE * math.log(size) / math.log(at) for size in SIZES[:-1]]
    estimate = saturating_batch_size(SIZES, np.array([[*rising, most]] * 3))
    assert estimate.value == pytest.approx(at)


def test_a_batch_size_at_the_edge_is_not_identified() -> None:
    flat, poor = [10.0] * len(SIZES), [1.0] * (len(SIZES) - 1) + [10.0]
    for counts in (flat, poor, [0.0] * len(SIZES)):
        assert saturating_batch_size(SIZES, np.array([counts] * 3)).value is None


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_interval_of_the_saturating_batch_size_covers(seeds: int) -> None:
    """91 to 95% of those that are identified, whatever their width (800 trials each)."""
    generator = np.random.default_rng(0)
    means = np.array([40 * (size / (size + 60)) ** 0.5 for size in SIZES[:-1]] + [40])
    truth = saturating_batch_size(SIZES, np.array([means])).value
    samples = [
        np.round(means * generator.lognormal(0, 0.15, (seeds, len(SIZES)))) for _ in range(200)
    ]
    bars = [saturating_batch_size(SIZES, sample).bar for sample in samples]
    identified = [bar for bar in bars if bar is not None]
    assert truth is not None
    assert len(identified) > 140
    assert np.mean([low <= truth <= high for _, low, high in identified]) > 0.88


counts = st.lists(st.integers(0, 50), min_size=2, max_size=2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=4), st.integers(1, 5))
def test_shares_are_of_the_best_in_any_unit(
    recovered: list[tuple[list[int], list[int]]], unit: int
) -> None:
    fits = [fit(f"o{index}", point(*counts)) for index, counts in enumerate(recovered)]
    shares = ranking(fits)
    values = [estimate.value or 0 for estimate in shares.values()]
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)
    larger = [
        fit(f"o{index}", point(*([unit * count for count in seeds] for seeds in counts)))
        for index, counts in enumerate(recovered)
    ]
    again = ranking(larger)
    for name, estimate in shares.items():
        if all(any(sum(counts[problem]) >= 2 for counts in recovered) for problem in (0, 1)):
            assert again[name].value == pytest.approx(estimate.value)


def test_the_share_is_the_mean_over_the_problems_that_all_have() -> None:
    fits = [
        fit("a", point([10, 10], [4, 4]), alpha=1.5),
        fit("b", point([5, 5], [6, 6]), alpha=1.5),
        fit("c", point([5, 5], [6, 6]), alpha=1.5),
        fit("b", point([1, 1], [1, 1]), alpha=2.0),  # on which no other was measured
    ]
    assert len(scores(fits)) == 2
    shares = ranking(fits)
    assert shares["a"].value == pytest.approx((1 + 4 / 6) / 2)
    assert shares["b"].value == pytest.approx((0.5 + 1) / 2)
    assert shares["a"].note == EQUAL_SEEDS
    assert [rank(shares, name) for name in "abc"] == ["1", "2", "2"]
    assert [one.optimizer for one in leaderboard.ranked(fits)] == ["a", "b", "c", "b"]


def test_two_optimizers_are_compared_on_the_same_seeds() -> None:
    """The intervals of the shares overlap widely; the gap is of the differences on each seed."""
    fits = [
        fit("best", point([100, 100, 100])),
        fit("a", point([50, 60, 40])),
        fit("b", point([45, 54, 36])),
        fit("c", point([36, 52, 44])),
    ]
    shares, gap = ranking(fits), gaps(fits)
    assert shares["a"].low is not None
    assert shares["b"].high is not None
    assert shares["a"].low < shares["b"].high
    assert list(gap) == list(shares)
    assert gap["best"] == "-"
    assert gap["b"] == "0.05 [0.03, 0.07]"
    assert gap["c"].startswith("0.01 [-")
    assert gap["c"].endswith("within noise")
    cells = [row["gap to the next better [95%]"] for row in leaderboard.rows(fits)]
    assert [cell.text for cell in cells] == [*gap.values()]
    assert [cell.key for cell in cells] == [
        None,
        *(pytest.approx(key) for key in (0.5, 0.05, 0.01)),
    ]


def test_a_difference_without_an_interval_is_not_called_noise() -> None:
    agreeing = gaps([fit("a", point([100] * 3)), fit("b", point([50] * 3))])
    assert agreeing["b"] == f"0.50 ({EQUAL_SEEDS})"
    single = gaps([fit("a", point([100])), fit("b", point([50]))])
    assert single["b"] == "0.50 (one seed, no interval)"


def test_leaderboards_without_a_common_problem_have_no_ranking() -> None:
    other = replace(point([9, 9]), num_items=256)
    shares = ranking([fit("a", point([1, 1])), fit("b", other)])
    assert {estimate.note for estimate in shares.values()} == {"no problem in common"}
    assert rank(shares, "a") == "-"
    assert gaps([fit("a", point([1, 1])), fit("b", other)]) == {"a": "-", "b": "-"}


def test_items_recovered_after_an_earlier_step_are_shown() -> None:
    """The remark on the first step replaces the counts only if all of them are 0."""
    summary = Summary("leaderboard", "", {}, [fit("a", point([3, 3], [0, 0]))], {"a": "random"})
    assert format_point(leaderboard, summary.fits[0].points[0], "random") == "3.0 / 0.0"
    assert format_point(leaderboard, point([0, 0], [0, 0]), "random") == "random"


def test_costs_are_relative_to_sgd() -> None:
    memory = AssociativeMemory(128, 8, 1.5, seed=0)
    assert cost(memory, builder("sgd"), 1.0).state == 0
    adam = cost(memory, builder("torch.optim.Adam"), 0.01)
    assert 2 <= adam.state < 2.1  # two moments, and the number of the step
    assert adam.time > 0


def test_the_numbers_of_a_nested_state_are_counted() -> None:
    three = torch.zeros(3)
    assert numbers({"a": three, "b": [three, {"c": three}], "d": "word", "e": 1.0}) == 9


def test_schedules_that_depend_on_the_number_of_steps_are_refused() -> None:
    with pytest.raises(InputError, match="depends on the number of steps"):
        LeaderboardGrid(schedules=["cosine"])


def test_the_popular_optimizers_are_distinct_and_about_fifteen() -> None:
    assert len(set(POPULAR)) == len(POPULAR) >= 15
    assert find("leaderboard") is leaderboard


def test_an_added_optimizer_is_measured_as_the_others_were(
    finished: tuple[Path, Summary[LeaderboardPoint]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(type(leaderboard), "figures", lambda self, summary: {})  # to save time
    words = ["leaderboard", "--add", "torch.optim.Adam", "--to", str(finished[0])]
    assert run_command([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("muon", "sgd", "torch.optim.Adam"))
    assert "settings differ" not in printed
    summary = load(tmp_path)[1]
    assert {fit.optimizer for fit in summary.fits} == {"torch.optim.Adam"}
    assert [point.dim for point in summary.fits[0].points] == [8, 12]
    assert summary.fits[0].points[0].num_items == 128


def test_adding_an_optimizer_does_not_overwrite_the_finished_study(
    finished: tuple[Path, Summary[LeaderboardPoint]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(finished[0])
    assert (
        run_command(["leaderboard", "--add", "sgd", "--to", folder, "--out", folder, "--resume"])
        == 2
    )
    assert "expected another folder" in capsys.readouterr().err
    assert load(finished[0])[1].fits == finished[1].fits


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("leaderboard --add torch.optim.Adam --dims 8", "--dims is given with --add"),
        ("capacity --add torch.optim.Adam", "--to FOLDER"),
        ("leaderboard --add torch.optim.Adam --to nowhere", "holds no summary.json"),
        ("leaderboard --to nowhere", "--to is the finished study of --add"),
        ("leaderboard --gradient thresholded", "expected 'exact'"),
        ("leaderboard --schedules linear", "depends on the number of steps"),
        ("leaderboard --dims 4096", "above the largest dimension"),
    ],
)
def test_nonsense_is_refused_in_a_line(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*words.split(), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
