"""Rates: the search at every number of steps, the choice of trials, exponents, and laws."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import memsolve
from memsolve import InputError, theory
from memsolve.cli import run_command
from memsolve.engine.results.load import load_summary
from memsolve.engine.run import run
from memsolve.study.rates.grid import RatesGrid, RatesTrial
from memsolve.study.rates.point import RatesPoint, rate
from memsolve.study.rates.rates import rates
from memsolve.study.rates.selection import (
    RatesRun,
    best_after,
    by_key,
    counts_after,
    reported_candidates,
)
from memsolve.study.training.grid import Candidate
from memsolve.study.training.search import SEARCH_BUDGET, geometric
from memsolve.theory import exponents_by_step

SMALL = RatesGrid(("sgd", "muon"), dims=(8, 16), seeds=2, steps=3, device="cpu")


def trial(lr: float, steps: int, *, seed: int = 0, num_items: int = 1024) -> RatesTrial:
    return RatesTrial("muon", 1.5, 16, num_items, None, seed, "geometric", lr, 0.5, steps)


def reaching(*recovered: int) -> RatesRun:
    return RatesRun("exact", list(recovered))


def measured(
    grid: RatesGrid, count: Callable[[RatesTrial, int], float]
) -> dict[RatesTrial, RatesRun]:
    """All trials of a study whose runs recover `count` of the trial and the step."""
    runs: dict[RatesTrial, RatesRun] = {}
    trials = rates.cells(grid)
    while trials:
        for each in trials:
            counts = [round(count(each, step)) for step in range(1, each.steps + 1)]
            runs[each] = RatesRun(each.gradient, counts)
        trials = rates.next_cells(grid, runs)
    return runs


def near(lr: float, ratio: float) -> Callable[[Candidate], float]:
    """A factor that is 1 at a learning rate and a ratio, and falls away from them."""

    def factor(candidate: Candidate) -> float:
        distances = np.log2(candidate.lr / lr), np.log2(candidate.ratio / ratio)
        return float(2 ** -np.abs(distances).sum())

    return factor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0; expected a whole number of at least 1"),
        ({"gradients": ("exact", "none")}, "gradients"),
        ({"batch_sizes": (4,)}, "batch_sizes is .* takes the population gradient"),
        ({"optimizers": ("sgd:lr=0.1",)}, "'sgd:lr=0.1' has an lr, but this study tunes"),
        ({"sweep": {"lr": [0.1]}}, "has an lr, but this study tunes"),
    ],
)
def test_a_grid_that_cannot_be_measured_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_every_number_of_steps_gets_the_same_budget_of_search_trials() -> None:
    grid = replace(SMALL, steps=4, seeds=1)
    runs = measured(grid, lambda each, step: step * 10)
    for key, group in by_key(runs).items():
        searched = {each for each in group if each.num_items == grid.search_items_of(key.dim)}
        for steps in range(1, 5):
            candidates = {each.candidate for each in searched if each.steps == steps}
            assert len(candidates) == (1 if steps == 1 else SEARCH_BUDGET)
            assert len(searched) % len(grid.memory_seeds(key.dim, 0)) == 0


def test_the_search_approaches_the_best_learning_rate_and_ratio() -> None:
    grid = RatesGrid(("muon",), dims=(16,), seeds=1, steps=3, gradients=("exact",), device="cpu")
    unit = min(each.lr for each in rates.cells(grid) if each.steps == 1)
    best = geometric(unit * 3, 1.0, 3)
    factor = near(best.lr, best.ratio)
    runs = measured(grid, lambda each, step: 1e6 * factor(each.candidate))
    assert factor(best_after(runs, 3)) > 0.5


def test_a_small_dimension_has_several_memories_a_seed() -> None:
    grid = replace(SMALL, dims=(8, 32, 64, 128))
    assert [len(grid.memory_seeds(dim, 0)) for dim in grid.dims] == [8, 4, 1, 1]
    assert not {*grid.memory_seeds(8, 0)} & {*grid.memory_seeds(8, 1)}
    more = replace(grid, dims=(8, 128, 1024))
    assert {*grid.memory_seeds(128, 1)} < {*more.memory_seeds(128, 1)}


def test_counts_are_means_over_a_seeds_memories_and_0_after_an_early_end() -> None:
    runs = {
        trial(1.0, 2, seed=0): reaching(4, 6),
        trial(1.0, 2, seed=1): reaching(4, 8),
        trial(1.0, 2, seed=8): reaching(4),
        trial(2.0, 1): reaching(4),
    }
    counts = counts_after(runs, 2)
    assert list(counts) == [Candidate("geometric", 1.0, 0.5)]
    assert counts[Candidate("geometric", 1.0, 0.5)].tolist() == [7, 0]


def test_the_best_of_all_runs_that_are_long_enough_is_selected_at_each_step() -> None:
    runs = {
        trial(1.0, 3): reaching(1, 5, 6),
        trial(2.0, 2): reaching(1, 4),
        trial(4.0, 3): reaching(1, 2, 9),
    }
    assert [best_after(runs, step).lr for step in (1, 2, 3)] == [1.0, 1.0, 4.0]


def test_a_candidate_that_is_run_for_longer_is_enough_where_it_is_nearly_the_best() -> None:
    runs = {
        trial(1.0, 3): reaching(10, 98, 200),
        trial(2.0, 2): reaching(10, 100),
        trial(4.0, 3): reaching(20, 30, 150),
    }
    first, second, third = (each.candidate for each in runs)
    assert reported_candidates(runs, 3) == {first: 3, third: 1}
    runs[trial(2.0, 2)] = reaching(10, 101)
    assert reported_candidates(runs, 3) == {first: 3, second: 2, third: 1}


def test_exponents_are_those_of_the_counts() -> None:
    def count(each: RatesTrial, step: int) -> float:
        method: theory.Method = "sgd" if each.optimizer == "sgd" else "muon"
        return float(10 * each.dim ** exponents_by_step(method, 1.5, 3)[step - 1])

    grid = replace(SMALL, dims=(16, 32, 64), num_items=2**17)
    for fit in rates.fits(grid, measured(grid, count)):
        assert fit.law is not None
        assert fit.estimate.value == pytest.approx(fit.law.exponent, abs=0.02)
        assert fit.estimate.note == "no interval: all seeds agree"


def point(dim: int, *trial_recovered: list[float], num_items: int = 2**20) -> RatesPoint:
    lrs = [float(lr) for lr in range(1, len(trial_recovered) + 1)]
    ratios = [1.0] * len(lrs)
    return RatesPoint(dim, num_items, "exact", 2, lrs, ratios, [*trial_recovered], [])


def test_a_dimension_with_too_few_items_is_left_out_of_the_exponent() -> None:
    points = [point(16, [20.0, 24.0]), point(32, [44.0, 46.0]), point(64, [90.0, 94.0])]
    assert all(each.has_enough_items for each in points)
    points[2] = replace(points[2], num_items=700)
    assert rate(points) == rate(points[:2])
    assert rate(points).doubts == "two dimensions"
    assert rates.value(points[2]) == "92.0, N too small"
    points[1] = replace(points[1], num_items=300)
    assert str(rate(points)) == "N too small at d = 32, 64"


def test_the_best_trial_is_selected_anew_without_each_seed() -> None:
    """Without seed 0 the second candidate is the best at d = 32, and its count is used."""
    first, second = [60.0, 20.0, 20.0], [30.0, 30.0, 30.0]
    points = [point(16, [10.0, 11.0, 12.0]), point(32, first, second)]
    assert points[1].candidate.lr == 1.0

    def slope(seeds: list[int]) -> float:
        large = max(np.mean(np.array(counts)[seeds]) for counts in (first, second))
        return float(np.log2(large / np.mean(np.array([10.0, 11.0, 12.0])[seeds])))

    changes = [slope([i for i in range(3) if i != out]) - slope([0, 1, 2]) for out in range(3)]
    error = np.sqrt(2 / 3 * np.square(changes).sum())
    estimate = rate(points)
    assert estimate.value == pytest.approx(slope([0, 1, 2]))
    assert estimate.low == pytest.approx(slope([0, 1, 2]) - 4.3026527 * error)


def test_laws_say_where_they_come_from() -> None:
    def status(method: theory.Method, gradient: str, step: int) -> str:
        law = theory.rate_law(method, gradient, 1.5, step)  # type: ignore[arg-type]
        assert law is not None
        assert law.exponent == exponents_by_step(method, 1.5, 3)[step - 1]
        return law.status

    assert status("muon", "thresholded", 3) == "published"
    assert status("muon", "exact", 1) == "published"
    assert status("muon", "exact", 2) == "conjectured"
    assert status("sgd", "exact", 1) == "derived"
    assert status("sgd", "exact", 2) == "derived, growing steps"
    assert theory.rate_law("newton", "exact", 1.5, 1) is None
    assert theory.rate_law(None, "exact", 1.5, 1) is None


def test_a_study_has_a_row_for_every_step_and_resumes(tmp_path: Path) -> None:
    grid = RatesGrid(("sgd", "muon"), dims=(4, 8), num_items=64, seeds=2, steps=2, device="cpu")
    summary = run(rates, grid, tmp_path)
    rows = [(fit.optimizer, fit.points[0].gradient, fit.points[0].step) for fit in summary.fits]
    assert rows == [
        (name, gradient, step)
        for name in ("sgd", "muon")
        for gradient in ("exact", "thresholded")
        for step in (1, 2)
    ]
    for name in ("sgd", "muon"):  # both gradients are the same at first
        exact, thresholded = (
            fit for fit in summary.fits if fit.optimizer == name and fit.points[0].step == 1
        )
        assert [each.recovered for each in exact.points] == [
            each.recovered for each in thresholded.points
        ]
    lines = (tmp_path / "cells.jsonl").read_text().splitlines()
    (tmp_path / "cells.jsonl").write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    assert run(rates, grid, tmp_path, resume=True).fits == summary.fits
    assert load_summary(rates, tmp_path).fits == summary.fits
    assert set(rates.figures(summary)) == {"rates", "rates-items"}


def test_an_optimizer_without_an_inferable_learning_rate_is_refused() -> None:
    grid = replace(SMALL, optimizers={"up": "torch.optim.SGD:maximize=True"}, seeds=1)
    with pytest.raises(InputError, match="does not raise the logit of the most frequent item"):
        run(rates, grid)


def test_the_command_refuses_other_schedules_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["rates", "--schedules", "cosine"]) == 2
    assert "No such option: --schedules" in capsys.readouterr().err


@pytest.mark.parametrize(("dims", "num_items"), [((8,), 256), ((8, 16), 32)])
def test_a_study_without_any_exponent_has_a_report(
    dims: tuple[int, ...], num_items: int, tmp_path: Path
) -> None:
    grid = replace(SMALL, optimizers=("muon",), dims=dims, num_items=num_items, steps=2)
    summary = memsolve.run(rates, grid, out=tmp_path / "out")
    assert all(fit.estimate.value is None for fit in summary.fits[1:])
    assert (tmp_path / "out/report.html").exists()
