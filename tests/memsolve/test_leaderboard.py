"""The leaderboard: its problems, tuning and ranking, and adding an optimizer to a finished one."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsolve import AssociativeMemory, InputError, cli
from memsolve.cli import run_command
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import Estimate
from memsolve.engine.results.merge import merge
from memsolve.engine.run import run
from memsolve.optimizers.registry import builder
from memsolve.records import commands
from memsolve.report import write_report
from memsolve.report.table import columns
from memsolve.study import find, load
from memsolve.study.leaderboard import references, tracks
from memsolve.study.leaderboard.candidates import (
    LeaderboardCandidate,
    edges_of,
    first_candidates,
    momentum_at,
    next_candidates,
    space_of,
)
from memsolve.study.leaderboard.grid import DEFAULTS, POPULAR, QUICK, LeaderboardGrid
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.loss import loss_items, population_loss
from memsolve.study.leaderboard.point import LeaderboardPoint, collapsed_seeds
from memsolve.study.leaderboard.ranking import (
    OTHER_PROBLEMS,
    in_order,
    rank,
    scores,
    shares_of,
)
from memsolve.study.leaderboard.tracks import Problem, Setting, Track, flops, problems
from memsolve.study.leaderboard.trial_run import (
    LeaderboardRun,
    RunContext,
    count_numbers,
    run_trial,
)
from memsolve.study.leaderboard.tuning import LeaderboardKey, trials_of
from memsolve.training import Schedule
from tests.memsolve.report_cases import leaderboard_point

HERE = "tests.memsolve.planted_optimizers"
ADAM_DEFAULTS = f"torch.optim.Adam{DEFAULTS}"

SMALL = LeaderboardGrid(
    ("sgd", "newton:lr=1", ADAM_DEFAULTS),
    alphas=(1.5,),
    dims=(4, 6),
    num_items=64,
    seeds=2,
    candidates=6,
    tracks=("one-step", "minibatch"),
)


@pytest.fixture(scope="module", autouse=True)
def short_runs() -> Iterator[None]:
    """Tracks with few steps, in place of the real ones."""
    short = {
        "full-gradient": Track("full-gradient", "", (Setting(5),)),
        "minibatch": Track("minibatch", "", (Setting(3, 1 / 4), Setting(3, 1.0))),
        "facts": Track("facts", "", (Setting(2, None, 0.5),), is_ranked=False),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, track in short.items():
            patch.setitem(tracks.TRACKS, name, track)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary[LeaderboardPoint]]:
    folder = tmp_path_factory.mktemp("board")
    return folder, run(leaderboard, SMALL, folder)


def cells(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "cells.jsonl").read_text().splitlines())
    return [line["cell"] for line in lines if "cell" in line]


def fit(name: str, recovered: list[list[int]], **changes: Any) -> Fit[LeaderboardPoint]:
    """A fit with one point at d = 8: counts by problem and seed."""
    count, seeds = len(recovered), len(recovered[0])
    point = replace(
        leaderboard_point(8, 6.0),
        seeds=[*range(2, 2 + seeds)],
        tracks=["full-gradient"] * count,
        num_items=[128] * count,
        batch_sizes=[None] * count,
        steps=[10, 50, 100][:count],
        schedules=["geometric"] * count,
        lrs=[1.0] * count,
        ratios=[1.0] * count,
        momenta=[None] * count,
        at_edge=[False] * count,
        candidates=[24] * count,
        recovered=recovered,
        loss=[[1.0] * seeds] * count,
        diverged=[[False] * seeds] * count,
        failed=[[False] * seeds] * count,
        curves=[[1.0]] * count,
        seconds=[None] * count,
    )
    return Fit(name, 1.5, "", Estimate(1.0), None, [replace(point, **changes)])


def test_no_number_that_is_shown_is_of_a_tuning_seed(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    measured = cells(finished[0])
    assert {cell["seed"] for cell in measured if not cell["shown"]} == {0, 1}
    assert {cell["seed"] for cell in measured if cell["shown"]} == {2, 3}
    for fit in finished[1].fits:
        for point in fit.points:
            assert point.seeds == [2, 3]
            assert point.tracks == ["one-step", "minibatch", "minibatch"]
            assert point.batch_sizes[1:] == [dim_ // 4 for dim_ in [point.dim**2]] + [point.dim**2]


def test_every_problem_is_tuned_by_itself_with_one_budget(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    """Half of the candidates at once and three rounds; the best four on a second seed."""
    trials: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for cell in cells(finished[0]):
        key = cell["optimizer"], cell["dim"], cell["batch_size"], cell["steps"]
        trials.setdefault(key, []).append(cell)
    assert len(trials) == 3 * 2 * 3
    for (optimizer, _, _, steps), group in trials.items():
        first = [cell for cell in group if cell["seed"] == 0]
        second = [cell for cell in group if cell["seed"] == 1]
        shown = [cell for cell in group if cell["shown"]]
        assert len(shown) == 2
        tuned = optimizer == "sgd"
        assert len(first) == (0 if not tuned else 3 if steps == 1 else 6)
        assert len(second) == min(len(first), 4)


def test_an_entry_of_defaults_keeps_the_settings_of_its_package(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    (fit,) = [fit for fit in finished[1].fits if fit.optimizer == ADAM_DEFAULTS]
    for point in fit.points:
        assert (point.schedules, point.lrs) == (["fixed"] * 3, [None] * 3)
        assert point.candidates == [1] * 3
    assert "the optimizer's own learning rates" in leaderboard.detail(fit.points[0])


def test_a_resumed_leaderboard_measures_nothing_again(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    folder, summary = finished
    before = (folder / "cells.jsonl").read_text()
    again = run(leaderboard, SMALL, folder, resume=True)
    assert (folder / "cells.jsonl").read_text() == before
    assert again.fits == summary.fits
    assert load(folder)[1].fits == summary.fits


def test_the_counts_do_not_depend_on_who_else_is_measured(
    finished: tuple[Path, Summary[LeaderboardPoint]],
) -> None:
    alone = run(leaderboard, replace(SMALL, optimizers=["sgd"]))
    (sgd,) = [fit for fit in finished[1].fits if fit.optimizer == "sgd"]
    for point, again in zip(sgd.points, alone.fits[0].points, strict=True):
        assert (point.recovered, point.loss) == (again.recovered, again.loss)
    for track in ("one-step", "minibatch"):
        assert scores(finished[1].fits, track)["sgd"] == scores(alone.fits, track)["sgd"]


def test_the_table_follows_from_the_csv(finished: tuple[Path, Summary[LeaderboardPoint]]) -> None:
    folder, summary = finished
    with (folder / "points.csv").open() as file:
        lines = list(csv.DictReader(file))
    keys = [tuple(value for name, value in line.items() if name != "value") for line in lines]
    assert len(set(keys)) == len(keys)
    shares: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        if line["shown"] == "True" and (line["step"], line["quantity"]) == ("0", "recovered"):
            limit = int(line["d"]) ** 2 / (2 * math.log(int(line["N"])))
            key = line["track"], line["optimizer"]
            shares.setdefault(key, []).append(int(line["value"]) / limit)
    for track in ("one-step", "minibatch"):
        for name, score in scores(summary.fits, track).items():
            assert score.value == pytest.approx(np.mean(shares[track, name]))


def test_planted_optimizers_are_ranked_equal_worse_and_worse() -> None:
    same, damaged, rotated = (f"{HERE}.{name}" for name in ("SameSGD", "DamagedSGD", "RotatedMuon"))
    grid = LeaderboardGrid(
        ("sgd", same, damaged, "muon", rotated),
        alphas=(1.5,),
        dims=(16,),
        seeds=4,
        candidates=6,
        tracks=("one-step", "full-gradient"),
    )
    fits = run(leaderboard, grid).fits
    for track in grid.tracks:
        estimates = scores(fits, track)
        values = {name: estimate.value or 0 for name, estimate in estimates.items()}
        assert values[same] == values["sgd"]
        assert rank(estimates, same) == rank(estimates, "sgd")
        assert values[damaged] < values["sgd"]
        assert values[rotated] < values["muon"]


def test_an_optimizer_without_a_state_is_measured() -> None:
    grid = replace(SMALL, optimizers=[f"{HERE}.WithoutState"], dims=[4], tracks=["one-step"])
    (fit,) = run(leaderboard, grid).fits
    assert fit.points[0].state is None
    assert leaderboard.rows([fit])[0].cells["state"].text == "-"


def test_dear_problems_are_at_one_alpha_and_the_dearest_left_out() -> None:
    at = {
        (problem.steps, problem.dim): problem.alpha
        for problem in problems(["one-step"], (1.2, 1.5, 2.0), (32, 64))
    }
    assert len(at) == 2
    dear = Problem("full-gradient", 1.5, 64, 8192, None, 10)
    assert tracks.CHEAP < flops(dear) < tracks.DEAR < flops(dear._replace(dim=128, num_items=32768))
    patched = Track("full-gradient", "", (Setting(10),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tracks.TRACKS, "full-gradient", patched)
        measured = problems(["full-gradient"], (1.2, 2.0, 1.5), (32, 64, 128))
    assert {(each.alpha, each.dim) for each in measured} == {
        (1.2, 32),
        (1.5, 32),
        (2.0, 32),
        (1.5, 64),
    }


def test_a_fit_has_the_problems_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an optimizer has failed, each alpha is fitted by itself."""
    settings: dict[str, Any] = {"dims": (4,), "seeds": 1, "tracks": ("one-step", "full-gradient")}
    grid = LeaderboardGrid(("newton:lr=1",), alphas=(1.2, 1.5), **settings)
    monkeypatch.setattr(tracks, "CHEAP", flops(Problem("one-step", 1.5, 4, 32, None, 1)))
    keys = [LeaderboardKey("newton:lr=1", problem) for problem in grid.problems]
    candidate = LeaderboardCandidate("constant", 1.0)
    results = {
        trial: LeaderboardRun([1], [2], loss=1.0)
        for key in keys
        for trial in trials_of(key, candidate, grid.seeds_shown, shown=True)
    }
    (fit,) = leaderboard.fits(replace(grid, alphas=[1.2]), results)
    assert fit.points[0].tracks == ["one-step"]
    (fit,) = leaderboard.fits(replace(grid, alphas=[1.5]), results)
    assert fit.points[0].tracks == ["one-step", "full-gradient"]


def test_a_track_without_a_ranking_is_for_the_references_at_the_smallest_dimension() -> None:
    grid = LeaderboardGrid(("sgd", "muon:momentum=0.9"), dims=(8, 16), tracks=("facts", "one-step"))
    facts = [problem for problem in grid.problems_of("sgd") if problem.track == "facts"]
    assert {(problem.dim, problem.num_items) for problem in facts} == {(8, 64)}
    assert all(problem.track == "one-step" for problem in grid.problems_of("muon:momentum=0.9"))


def test_the_score_is_a_share_of_the_limit_and_depends_on_no_other() -> None:
    fits = [fit("a", [[5, 6], [3, 3]]), fit("b", [[1, 2], [6, 6]]), fit("c", [[4, 4], [2, 2]])]
    limit = 64 / (2 * math.log(128))
    estimates = scores(fits, "full-gradient")
    assert estimates["a"].value == pytest.approx((5.5 + 3) / 2 / limit)
    assert list(estimates) == ["a", "b", "c"]
    for name in "abc":
        others = [each for each in fits if each.optimizer in ("a", name)]
        assert scores(others, "full-gradient")[name] == estimates[name]


def test_saturated_problems_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = [fit("a", [[5, 6], [3, 3]]), fit("b", [[1, 2], [6, 6]])]
    first = Problem("full-gradient", 1.5, 8, 128, None, 10)
    for counts, left in (((10, 9.5, 9, 10), 1), ((10, 9.5, 8.9, 10), 2)):
        monkeypatch.setattr(references, "RECOVERED", {first: counts})
        assert len(shares_of(fits, "full-gradient")[1]) == left
    monkeypatch.setattr(
        references, "RECOVERED", {first._replace(steps=steps): (1.0,) * 4 for steps in (10, 50)}
    )
    assert scores(fits, "full-gradient")["a"].note == "all problems saturated"


def test_the_table_has_a_row_for_each_optimizer_and_its_points_at_each_alpha(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["sgd:lr=1", "sgd:lr=2"]
    grid = replace(SMALL, optimizers=names, alphas=[1.2, 1.5])
    summary = run(leaderboard, grid, tmp_path)
    assert len(summary.fits) == 4
    rows = leaderboard.rows(summary.fits)
    assert sorted(row.names["optimizer"].text for row in rows) == names
    assert list(rows[0].cells) == ["minibatch [95%]", "one-step [95%]", "state"]
    assert rows[0].cells["minibatch [95%]"].text.startswith("1 ")
    assert "exponent in d at alpha = 1.2: " in rows[0].cells["one-step [95%]"].details
    cells = columns(leaderboard, summary)
    points = [title for title in cells if title.startswith("alpha")]
    assert points == [f"alpha = {alpha}, d = {dim}" for alpha in (1.2, 1.5) for dim in (4, 6)]
    for row, name in enumerate(cell.text for cell in cells["optimizer"]):
        for fit in (fit for fit in summary.fits if fit.optimizer == name):
            for point in fit.points:
                cell = cells[f"alpha = {fit.alpha:g}, d = {point.dim}"][row]
                assert (cell.text, cell.details) == (
                    leaderboard.value(point),
                    leaderboard.detail(point),
                )
    monkeypatch.setattr(type(leaderboard), "figures", lambda *_: {})
    page = write_report([(leaderboard, summary)], tmp_path).read_text()
    assert "One row for each optimizer." in page
    assert page.count('<th scope="row"') == 2
    assert len((tmp_path / "leaderboard-table.csv").read_text().splitlines()) == 4
    assert (tmp_path / "leaderboard-table.tex").read_text().count(" & ") == 3 * 3


def test_rows_are_in_the_order_of_one_track() -> None:
    """Of minibatch if it is measured, and else of the full gradient; as given among equals."""
    fits = [fit("a", [[1, 1]]), fit("b", [[3, 3]]), fit("c", [[3, 3]]), fit("d", [[2, 2]])]
    assert in_order(fits) == ["b", "c", "d", "a"]
    assert [each.optimizer for each in leaderboard.ranked(fits[::-1])] == ["c", "b", "d", "a"]
    both = [["full-gradient", "minibatch"]] * 4
    counts = [[[1, 1], [4, 4]], [[3, 3], [2, 2]], [[9, 9], [1, 1]], [[2, 2], [3, 3]]]
    fits = [
        fit(name, recovered, tracks=tracks)
        for name, recovered, tracks in zip("abcd", counts, both, strict=True)
    ]
    assert in_order(fits) == ["a", "d", "b", "c"]
    assert [row.names["optimizer"].text for row in leaderboard.rows(fits)] == ["a", "d", "b", "c"]


def test_optimizers_of_other_problems_or_seeds_are_not_ranked() -> None:
    fits = [
        fit("a", [[5, 6], [3, 3]]),
        fit("b", [[1, 2], [6, 6]]),
        fit("other seeds", [[9, 9], [9, 9]], seeds=[7, 8]),
        fit("fewer problems", [[9, 9]]),
    ]
    names, kinds, shares = shares_of(fits, "full-gradient")
    assert names == ["a", "b"]
    assert shares.shape == (2, len(kinds), 2)
    estimates = scores(fits, "full-gradient")
    assert list(estimates)[:2] == ["a", "b"]
    for name in ("other seeds", "fewer problems"):
        assert (estimates[name].note, rank(estimates, name)) == (OTHER_PROBLEMS, "-")
    assert len(leaderboard.rows(leaderboard.ranked(fits))) == 4


def test_the_references_decide_who_is_ranked_however_many_others_there_are() -> None:
    others = [fit(f"other {number}", [[9, 9]]) for number in range(5)]
    fits = [*others, fit("muon", [[5, 6], [3, 3]]), fit("mine", [[1, 2], [6, 6]])]
    names, problems, _ = shares_of(fits, "full-gradient")
    assert (names, len(problems)) == (["muon", "mine"], 2)
    assert in_order(fits)[:2] == ["muon", "mine"]
    part = fit("sgd", [[4, 4]])  # a reference of which cells have failed
    assert shares_of([part, *fits], "full-gradient")[0] == names
    assert len(shares_of(others, "full-gradient")[0]) == 5


def test_leaderboards_of_other_dimensions_are_merged(
    finished: tuple[Path, Summary[LeaderboardPoint]], tmp_path: Path
) -> None:
    other = run(leaderboard, replace(SMALL, dims=[8], tracks=["one-step"]), tmp_path)
    loaded = [(path, leaderboard, summary) for path, summary in (finished, (tmp_path, other))]
    ((study, summary),) = merge(loaded)
    assert len(summary.fits) == 6
    assert len(study.rows(summary.fits)) == 6
    assert "settings differ" in summary.differences


def test_the_search_starts_in_its_box_and_halves_its_steps() -> None:
    space = space_of("geometric", 10, has_momentum=True)
    first = first_candidates(space, 3.0, 0.9, 24)
    assert len(set(first)) == 12
    positions = np.array([[*space.position(each).values()] for each in first])
    low, high = positions.min(0), positions.max(0)
    unit = math.log2(3.0)
    assert (low > [unit - 2.1, -6.1, -0.1]).all()
    assert (high < [unit + 6.1, 10.1, 7.1]).all()
    assert [each.momentum for each in first[::3]] == [0.9] * 4
    assert [each.momentum for each in first[1::3]] == [0.0] * 4
    assert len({each.momentum for each in first[2::3]}) == 4
    tried, best = [*first], first[0]
    rounds: list[dict[str, float]] = [
        {"learning rate": 1, "ratio": 2},
        {"momentum": 0.5, "learning rate": 0.5},
        {"ratio": 0.5, "momentum": 0.25},
    ]
    for steps in rounds:
        following = next_candidates(best, tried, 10, 24)
        assert len(following) == 4
        for name, step in steps.items():
            center = space.position(best)[name]
            distances = [space.position(each)[name] - center for each in following]
            assert max(distances) == pytest.approx(step, abs=0.06)
            assert min(distances) == pytest.approx(-step, abs=0.06)
        tried += following
    assert next_candidates(best, tried, 10, 24) == []


@given(
    st.sampled_from(["geometric", "own", "constant"]), st.booleans(), st.sampled_from([6, 12, 24])
)
def test_the_search_keeps_its_budget(schedule: Schedule, has_momentum: bool, budget: int) -> None:
    space = space_of(schedule, 10, 0.1, has_momentum=has_momentum)
    tried = first_candidates(space, 1.0, 0.9, budget)
    while following := next_candidates(tried[0], tried, 10, budget):
        tried += following
    assert len(tried) == len(set(tried)) <= budget


def test_what_a_name_sets_is_not_tuned() -> None:
    assert space_of("constant", 10, 0.1, has_momentum=False).coordinates == ()
    assert space_of("constant", 10, 0.1, has_momentum=True).coordinates == ("momentum",)
    assert space_of("geometric", 1, has_momentum=True).coordinates == ("learning rate",)
    assert space_of("own", 10, has_momentum=True).coordinates == ("learning rate", "momentum")
    assert first_candidates(space_of("fixed", 10, has_momentum=False), 1.0, None, 24) == [
        LeaderboardCandidate("fixed", None)
    ]


def test_a_momentum_of_zero_is_no_edge() -> None:
    candidates = [
        LeaderboardCandidate("geometric", lr, 1.0, momentum)
        for lr, momentum in ((1.0, 0.9), (2.0, 0.0), (4.0, 0.5))
    ]
    edges = [edges_of(each, candidates, 10) for each in candidates]
    assert edges == [["smallest learning rate", "largest momentum"], [], ["largest learning rate"]]
    assert (momentum_at(-1.0), momentum_at(1.0), momentum_at(99.0)) == (0.0, 0.5, 0.999)


def context(num_items: int = 128) -> RunContext:
    return RunContext(AssociativeMemory(num_items, 8, 1.5, seed=0, dtype=torch.float32))


def one_run(name: str, lr: float, steps: int = 4) -> Any:
    key = LeaderboardKey(name, Problem("full-gradient", 1.5, 8, 128, None, steps))
    (trial,) = trials_of(key, LeaderboardCandidate("constant", lr), [0], shown=False)
    return run_trial(context(), builder(name), trial)


def test_a_run_whose_loss_ends_above_its_beginning_has_diverged() -> None:
    fine, large, overflow = (one_run("sgd", lr) for lr in (1.0, 1e6, 1e37))
    assert not fine.diverged
    assert fine.loss < math.log(128)
    assert fine.marks == [1, 2, 4]
    assert fine.recovered == fine.curve[-1]
    assert large.diverged
    assert large.loss > math.log(128)
    assert large.recovered == large.curve[-1]
    assert overflow.diverged
    assert (overflow.loss, overflow.recovered) == (None, 0)


def test_a_collapsed_seed_is_far_below_the_median() -> None:
    assert collapsed_seeds([40, 29, 5, 38, 41]) == 1
    assert collapsed_seeds([40, 29, 10, 38, 41]) == 0
    assert collapsed_seeds([0, 1, 2]) == 0  # by chance
    (counted,) = [fit("a", [[40, 41, 5], [9, 9, 9]]).points]
    assert leaderboard.value(counted[0]).startswith("28.7 (1 of 3 collapsed) / 9.0")


def test_the_estimated_loss_is_that_of_the_population() -> None:
    memory = AssociativeMemory(4096, 8, 1.5, seed=0)
    weight = -30 * memory.gradient_at_zero(memory.population())
    items = loss_items(memory, 128)
    assert len(items.items) == 128
    assert float(items.weights.sum()) == pytest.approx(1)
    exact = float(memory.loss(weight, memory.population()))
    assert population_loss(memory, weight, items) == pytest.approx(exact, rel=0.01)


def test_the_numbers_of_a_nested_state_are_counted() -> None:
    three = torch.zeros(3)
    assert count_numbers({"a": three, "b": [three, {"c": three}], "d": "word", "e": 1.0}) == 9


def test_a_quick_grid_sets_what_is_not_set() -> None:
    quick = LeaderboardGrid(quick=True)
    assert {name: getattr(quick, name) for name in QUICK} == QUICK
    other = LeaderboardGrid(quick=True, dims=(16,), seeds=2)
    assert (other.dims, other.seeds, other.candidates) == ([16], 2, QUICK["candidates"])
    given: dict[str, Any] = {"seeds": 5, "dims": (32, 64, 128), "candidates": 24, "tuning_seeds": 2}
    assert {name: getattr(LeaderboardGrid(quick=True, **given), name) for name in given} == {
        **given,
        "dims": [32, 64, 128],
    }
    for grid in (quick, LeaderboardGrid(quick=True, **given)):
        assert LeaderboardGrid.from_json(json.loads(json.dumps(grid.as_json()))) == grid
        assert type(grid.seeds) is type(grid.tuning_seeds) is type(grid.candidates) is int
    assert "--quick" in quick.command("leaderboard").split()
    assert "--quick" not in LeaderboardGrid().command("leaderboard").split()


def test_options_that_are_given_win_over_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids = []

    def run(study: Any, grid: Any, **_: Any) -> None:
        grids.append(grid)
        raise InputError("measured elsewhere")

    monkeypatch.setattr(cli, "run_study", run)
    monkeypatch.setattr(commands, "run_study", run)
    words = ["--quick", "--seeds", "5", "--alpha", "1.2,1.5,2", "--out", str(tmp_path)]
    assert run_command(["leaderboard", *words]) == 2
    assert run_command(["leaderboard", "submit", "sgd", *words]) == 2
    for grid in grids:
        assert (grid.seeds, grid.alphas, grid.dims) == (5, [1.2, 1.5, 2.0], QUICK["dims"])
        assert (grid.candidates, grid.tuning_seeds) == (QUICK["candidates"], 1)
    assert len(grids) == 2


def test_the_popular_optimizers_are_distinct_and_some_have_defaults() -> None:
    assert len(set(POPULAR)) == len(POPULAR) >= 15
    grid = LeaderboardGrid()
    defaults = [label for label in grid.labels if label.endswith(DEFAULTS)]
    assert defaults
    assert all(grid.choices[label] == label.removesuffix(DEFAULTS) for label in defaults)
    assert find("leaderboard") is leaderboard


def test_an_added_optimizer_is_measured_as_the_others_were(
    finished: tuple[Path, Summary[LeaderboardPoint]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(type(leaderboard), "figures", lambda self, summary: {})  # to save time
    words = ["leaderboard", "--add", "muon:lr=1:momentum=0", "--to", str(finished[0])]
    assert run_command([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("sgd", "newton", "muon"))
    assert "settings differ" not in printed
    summary = load(tmp_path)[1]
    assert {fit.optimizer for fit in summary.fits} == {"muon:lr=1:momentum=0"}
    assert [point.dim for point in summary.fits[0].points] == [4, 6]
    assert summary.fits[0].points[0].num_items == [64] * 3


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
        ("leaderboard --tracks sprint", "expected names of"),
        ("leaderboard --batch-sizes 8", "batch sizes of their own"),
        ("leaderboard --candidates 7", "a multiple of 6"),
        ("leaderboard --tracks full-gradient --dims 4096", "takes too long"),
        ("leaderboard --optimizers sgd:lr=0", "expected a number above 0"),
    ],
)
def test_nonsense_is_refused_in_a_line(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*words.split(), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
