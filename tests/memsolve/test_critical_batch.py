"""The critical batch size: on exact curves, and from a command line to a report."""

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsolve import InputError
from memsolve.__main__ import main
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import Estimate, Floats
from memsolve.engine.run import run
from memsolve.environment import environment
from memsolve.optimizers.registry import resolve
from memsolve.study import find, load
from memsolve.study.critical_batch.batch_scaling import BatchScaling, fewest_steps
from memsolve.study.critical_batch.critical_batch import critical_batch
from memsolve.study.critical_batch.grid import RaceGrid
from memsolve.study.critical_batch.point import BatchScalingPoint
from memsolve.study.critical_batch.race import RaceResult, race
from memsolve.study.memory import memory_of
from memsolve.study.training.grid import Candidate, Trial, TuningKey
from memsolve.study.training.trajectory import trajectory
from memsolve.study.training.tuning import BUDGET

fast = settings(max_examples=25, deadline=None)
SIZES = [4.0**power for power in range(7)] + [math.inf]
FINE = [2.0 ** (power / 4) for power in range(49)]
FLOOR = 10.0


def curve(critical: float, sizes: list[float] = SIZES, floor: float = FLOOR) -> Floats:
    """(K,) steps of the model, exactly."""
    steps: Floats = floor * (1 + critical / np.array(sizes))
    return steps


def seeds(curves: Floats, count: int = 3) -> Floats:
    """(S, K, 1): every seed and its one trial the same."""
    return np.tile(curves[None, :, None], (count, 1, 1))


@fast
@given(st.floats(2, 2000), st.floats(1, 1e4))
def test_an_exact_curve_is_fitted_to_rounding(critical: float, floor: float) -> None:
    scaling = BatchScaling(SIZES, horizon=10**9)
    steps = seeds(curve(critical, floor=floor))
    model = scaling.model(steps[None])
    assert model.critical[0] == pytest.approx(critical, rel=1e-9)
    assert model.floor[0] == pytest.approx(floor, rel=1e-9)
    assert model.misfit[0] == pytest.approx(1, rel=1e-9)


def test_an_exact_curve_has_an_interval_of_no_width() -> None:
    scaling = BatchScaling(SIZES, horizon=10**9)
    estimate = scaling.estimate(seeds(curve(60)), scaling.critical)
    assert estimate.bar == pytest.approx((60, 60, 60), rel=1e-9)


@fast
@given(st.floats(4, 1000), st.floats(1.5, 100), st.floats(1.5, 100))
def test_units_of_examples_and_steps_only_rescale(
    critical: float, batch: float, step: float
) -> None:
    generator = np.random.default_rng(0)
    steps = curve(critical)[None, None, :, None] * generator.lognormal(
        0, 0.2, (1, 3, len(SIZES), 2)
    )
    steps[:, 0, 0] = np.inf
    one = BatchScaling(SIZES, horizon=10**5)
    other = BatchScaling([size * batch for size in SIZES], horizon=round(10**5 * step))
    first, second = one.model(steps), other.model(steps * step)
    assert second.critical == pytest.approx(first.critical * batch, rel=1e-6)
    assert second.floor == pytest.approx(first.floor * step, rel=1e-6)
    expected = pytest.approx(one.overhead(steps) * batch, rel=1e-6, nan_ok=True)
    assert other.overhead(steps * step) == expected


@fast
@given(st.floats(64, 1000))
def test_the_overhead_of_the_model_is_a_fifth_of_its_critical_batch_size(critical: float) -> None:
    scaling = BatchScaling(FINE, horizon=10**9)
    overhead = scaling.overhead(seeds(curve(critical, FINE))[None])
    assert overhead[0] == pytest.approx(
        1.2 * FINE[0] + 0.2 * critical, rel=0.01
    )  # to interpolation


@pytest.mark.parametrize("knee", [4, 64, 512])
def test_the_overhead_of_a_sharp_knee_is_exact_to_rounding(knee: int) -> None:
    sizes = [2.0**power for power in range(12)]
    scaling = BatchScaling(sizes, horizon=10**9)
    steps = seeds(np.maximum(4096 / np.array(sizes), 4096 / knee))
    assert scaling.estimate(steps, scaling.overhead).value == pytest.approx(1.2 * knee, rel=1e-12)


def test_linear_scaling_starts_where_the_fewest_examples_are_needed() -> None:
    """Very small batches may waste examples, so they are no baseline for larger ones."""
    sizes = [2.0**power for power in range(12)]
    scaling = BatchScaling(sizes, horizon=10**9)
    steps = np.maximum(4096 / np.array(sizes), 64)
    steps[:3] *= [40, 10, 3]
    assert scaling.overhead(seeds(steps)[None])[0] == pytest.approx(1.2 * 64, rel=1e-12)


@pytest.mark.parametrize("critical", [1e-3, 0.5, 8000.0, 1e7])
def test_a_critical_batch_size_off_the_grid_is_not_identified(critical: float) -> None:
    scaling = BatchScaling(SIZES, horizon=10**9)
    for statistic in (scaling.critical, scaling.overhead):
        if (critical, statistic.__name__) == (8000.0, "overhead"):
            continue  # a fifth of it lies on the grid
        estimate = scaling.estimate(seeds(curve(critical)), statistic)
        assert estimate.value is None
        assert "not identified" in estimate.note


def test_an_estimate_that_is_off_the_grid_without_some_seed_is_not_identified() -> None:
    scaling = BatchScaling(SIZES, horizon=10**9)
    steps = seeds(curve(8), count=2)
    steps[1] = curve(0.1)[:, None]
    assert 1 < scaling.critical(steps[None])[0] < 4096
    assert np.isnan(scaling.critical(steps[None, 1:])[0])
    assert "not inside the batch sizes" in scaling.estimate(steps, scaling.critical).note


def test_if_no_run_reaches_the_target_nothing_is_identified() -> None:
    scaling = BatchScaling(SIZES, horizon=10)
    steps = np.full((3, len(SIZES), 2), np.inf)
    estimate = scaling.estimate(steps, scaling.critical)
    assert estimate.note == "not identified: no batch size reached the target"
    steps[:, -1] = 5  # only of the population
    estimate = scaling.estimate(steps, scaling.critical)
    assert estimate.note == "not identified: no batch size reached the target"
    assert np.isnan(scaling.model(np.full((1, 3, len(SIZES), 2), np.inf)).critical)


def test_intervals_cover_the_truth_with_the_lr_selected_anew() -> None:
    generator = np.random.default_rng(0)
    scaling = BatchScaling(SIZES, horizon=10**9)
    trials = np.array([1.0, 1.05, 1.5])  # two that are hard to tell apart
    covered = 0
    for _ in range(40):
        noise = generator.lognormal(0, 0.15, (5, len(SIZES), len(trials)))
        steps = curve(60)[None, :, None] * trials * noise
        bar = scaling.estimate(steps, scaling.critical).bar
        assert bar is not None
        covered += bar[1] <= 60 <= bar[2]
        assert bar[2] < 10 * bar[1]
    assert covered >= 33  # 38 expected


def test_the_selection_of_the_lr_widens_the_interval() -> None:
    """At some batch sizes the best candidate depends on the seeds, which adds uncertainty."""
    steps = np.tile(curve(60)[None, :, None], (4, 1, 2))
    steps[:2, 2:4, 0] *= 3
    steps[2:, 2:4, 1] *= 3
    scaling = BatchScaling(SIZES, horizon=10**9)
    anew = scaling.estimate(steps, scaling.critical).bar
    fixed = scaling.estimate(np.repeat(steps.mean(2, keepdims=True), 2, 2), scaling.critical).bar
    assert anew is not None
    assert fixed is not None
    assert anew[2] - anew[1] > 10 * (fixed[2] - fixed[1])


def test_a_lower_bound_below_the_curve_changes_nothing() -> None:
    critical, horizon = 60.0, 150
    steps = curve(critical)
    steps[steps > horizon] = np.inf
    assert np.isinf(steps[:2]).all()
    model = BatchScaling(SIZES, horizon).model(seeds(steps)[None])
    assert model.critical[0] == pytest.approx(critical, rel=1e-9)


def test_censored_runs_bound_the_curve_where_dropping_them_bends_it() -> None:
    """Only lucky seeds reach the target: without the others small batches look better."""
    critical, horizon = 60.0, 100
    generator = np.random.default_rng(0)
    scaling = BatchScaling(SIZES, horizon)
    bounded, dropped = [], []
    for _ in range(30):
        steps = seeds(curve(critical), 6) * generator.lognormal(0, 0.4, (6, len(SIZES), 1))
        steps[steps > horizon] = np.inf
        bounded.append(scaling.model(steps[None]).critical[0])
        lucky = np.where(np.isfinite(steps), steps, np.nan)
        kept = np.flatnonzero(np.isfinite(steps).sum((0, 2)))
        means = np.nanmean(lucky[:, kept], axis=0)
        rest = BatchScaling([SIZES[index] for index in kept], horizon)
        dropped.append(rest.model(means[None, None]).critical[0])
    bias, bias_dropped = (
        np.median(np.log(np.array(estimates) / critical)) for estimates in (bounded, dropped)
    )
    assert abs(bias) < 0.1
    assert bias_dropped < -0.25


@fast
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.floats(0, 1))
def test_the_candidate_with_the_fewest_censored_runs_and_then_steps_is_selected(
    seed: int, count: int, trials: int, censored: float
) -> None:
    generator = np.random.default_rng(seed)
    steps = generator.integers(1, 50, (1, count, 3, trials)).astype(float)
    steps[generator.random(steps.shape) < censored] = np.inf

    def cost(column: Floats) -> tuple[int, float]:
        return int(np.isinf(column).sum()), float(column[np.isfinite(column)].sum())

    for size, selected in enumerate(fewest_steps(steps)[0]):
        costs = [cost(steps[0, :, size, candidate]) for candidate in range(trials)]
        assert selected == costs.index(min(costs))


GRID = RaceGrid(
    ("sgd",), dims=(8,), seeds=2, num_items=96, steps=20, target="recovered=3", device="cpu"
)


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimate the noise scale from fewer and smaller batches, to save time."""
    module = sys.modules[race.__module__]
    monkeypatch.setattr(module, "PAIRS", 4)
    monkeypatch.setattr(module, "BIG", 1 << 10)


def run_race(grid: RaceGrid, batch_size: int | None, lr: float) -> tuple[RaceResult, list[int]]:
    """A race, and the items recovered by a run of all steps."""
    key, candidate = TuningKey("sgd", 1.5, 8, batch_size), Candidate("constant", lr)
    trial = critical_batch.trial(grid, key, 0, candidate)
    memory, build = memory_of(grid, trial), resolve(grid.optimizers)["sgd"]
    return race(grid, memory, build, trial), trajectory(grid, memory, build, trial).recovered


@pytest.mark.parametrize("batch_size", [16, None])
def test_a_race_is_the_run_up_to_its_target(batch_size: int | None) -> None:
    result, recovered = run_race(GRID, batch_size, 20.0)
    assert result.steps is not None
    assert result.recovered == recovered[: result.steps]
    assert max([0, *result.recovered[:-1]]) < 3 <= result.recovered[-1]
    assert (result.noise_at_zero is None) == (batch_size is not None)


def test_a_race_to_a_loss_evaluates_the_population() -> None:
    result, _ = run_race(replace(GRID, target="loss=3.5"), 4, 5.0)
    assert result.steps == len(result.loss)
    assert result.loss[-1] <= 3.5 < min(result.loss[:-1])


def test_a_race_that_does_not_reach_its_target_takes_all_steps() -> None:
    result, recovered = run_race(replace(GRID, target="recovered=60"), None, 20.0)
    assert result == RaceResult(None, recovered, [])
    assert len(recovered) == GRID.steps


def races(steps_by_lr: dict[float, list[int | None]]) -> dict[Trial, RaceResult]:
    key = TuningKey("sgd", 1.5, 8, 4)
    return {
        critical_batch.trial(GRID, key, seed, Candidate("constant", lr)): RaceResult(steps, [], [])
        for lr, by_seed in steps_by_lr.items()
        for seed, steps in enumerate(by_seed)
    }


def test_the_best_lr_at_an_edge_is_marked_and_widened() -> None:
    assert critical_batch.select(GRID, races({1: [9, 9], 4: [5, 6], 16: [7, 7]})).at_edge is False
    low = critical_batch.select(GRID, races({1: [4, 4], 4: [None, 1], 16: [None, None]}))
    assert (low.lr, low.at_edge) == (1, True)
    grid = replace(GRID, lrs=(1, 4, 16))
    trials = critical_batch.next_cells(grid, races({1: [9, 9], 4: [8, 8], 16: [7, 7]}))
    assert [(trial.lr, trial.seed) for trial in trials] == [(64.0, 0), (64.0, 1)]


def test_if_no_race_reaches_the_target_tuning_follows_the_nearest_within_its_budget() -> None:
    trials = critical_batch.cells(replace(GRID, batch_sizes=(4,)))
    runs: dict[Trial, RaceResult] = {}
    while trials:
        runs |= {trial: RaceResult(None, [0, round(trial.lr)], []) for trial in trials}
        trials = critical_batch.next_cells(GRID, runs)
    at_one_size = {trial: runs[trial] for trial in runs if trial.batch_size == 4}
    selection = critical_batch.select(GRID, at_one_size)
    assert selection.lr == max(trial.lr for trial in at_one_size)
    assert not selection.at_edge
    assert len(at_one_size) == BUDGET * GRID.seeds


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["memsolve", "critical-batch", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


SMALL = "--optimizers sgd --dims 8 --num-items 96 --seeds 2 --steps 30 --batch-sizes 1,8,64,512"
SMALL += " --lrs 4,16,64 --target recovered=4"


def test_from_command_line_to_report_with_an_interruption(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, *SMALL.split(), "--out", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "B_crit" in printed
    assert "?: not identified; the report says why" in printed
    summary = (tmp_path / "summary.json").read_bytes()
    cells = tmp_path / "cells.jsonl"
    lines = cells.read_text().splitlines(keepends=True)
    cells.write_text("".join(lines[:-5]) + '{"cell": {"opt')
    with monkeypatch.context() as without_figures:
        without_figures.setattr(type(critical_batch), "figures", lambda self, summary: {})
        assert run_cli(monkeypatch, *SMALL.split(), "--out", str(tmp_path), "--resume") == 0
    assert (tmp_path / "summary.json").read_bytes() == summary
    assert len(cells.read_text().splitlines()) == len(lines)

    study, loaded = load(tmp_path)
    assert study is critical_batch is find("critical-batch")
    assert loaded.as_json() == json.loads(summary)
    (point,) = loaded.fits[0].points
    assert isinstance(point, BatchScalingPoint)
    assert point.batch_sizes == [1, 8, 64, 512, None]
    assert point.noise_at_zero.value == pytest.approx(
        np.mean(list(noise_at_zero(cells))), rel=1e-12
    )
    detail = study.detail(point)
    for name in ("B_crit", "B_20%", "noise scale", "from two batch sizes", "target 4"):
        assert name in detail
    for name in ("critical-batch", "critical-batch-against-d"):
        assert (tmp_path / f"{name}.png").stat().st_size > 0
    with (tmp_path / "points.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "steps to target"]
    assert len(rows) == len(lines) - 2
    tuned = dict(zip(point.batch_sizes, point.lrs, strict=True))
    at = [row for row in rows if row["batch"] == "64" and float(row["lr"]) == tuned[64]]
    steps = [math.inf if steps is None else steps for steps in point.steps[2]]
    assert [float(row["value"]) for row in at] == steps


def fitted_curves(fit: Fit[BatchScalingPoint], point: BatchScalingPoint) -> int:
    """How many fitted curves the figure has if the fit has only this point."""
    summary = Summary("critical-batch", "", environment("cpu"), [replace(fit, points=[point])])
    (axes,) = critical_batch.figures(summary)["critical-batch"].axes
    return sum(len(line.get_xdata()) > 50 for line in axes.lines)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fit() -> Fit[BatchScalingPoint]:
    """A fit of one `d`, so without a slope."""
    grid = replace(GRID, batch_sizes=(1, 8, 64), lrs=(16.0,), steps=10)
    (fit,) = run(critical_batch, grid).fits
    return fit


def test_the_fitted_curve_is_drawn_only_where_it_is_identified(
    fit: Fit[BatchScalingPoint],
) -> None:
    point = replace(fit.points[0], floor=3.0, slope=8.0, critical=Estimate(8.0, 4.0, 16.0))
    assert fitted_curves(fit, point) == 1
    assert fitted_curves(fit, replace(point, critical=Estimate(None, note="not identified"))) == 0


def test_the_key_lists_unidentified_fits_and_no_marks_that_are_not_drawn(
    fit: Fit[BatchScalingPoint],
) -> None:
    point = replace(fit.points[0], critical=Estimate(8.0, 4.0, 16.0))
    assert keys(fit, point) == ["estimate and 95% interval over seeds"]
    missing = replace(point, critical=Estimate(None, note="not identified"))
    assert keys(fit, missing) == ["not identified: sgd (alpha = 1.5)"]
    assert "fitted power of d" in keys(replace(fit, estimate=Estimate(1.5)), point)[1]


def keys(fit: Fit[BatchScalingPoint], point: BatchScalingPoint) -> list[str]:
    """The entries of the key of `B_crit` against `d` if the fit has only this point."""
    summary = Summary("critical-batch", "", environment("cpu"), [replace(fit, points=[point])])
    (key,) = critical_batch.figures(summary)["critical-batch-against-d"].legends
    return [" ".join(text.get_text().split()) for text in key.get_texts()]


def noise_at_zero(cells: Path) -> set[float]:
    entries = [json.loads(line) for line in cells.read_text().splitlines()]
    scales = {entry["result"]["noise_at_zero"] for entry in entries if "result" in entry}
    return scales - {None}


def test_the_report_says_that_no_run_reaches_the_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SMALL.replace("recovered=4", "recovered=60").replace("--steps 30", "--steps 2")
    assert run_cli(monkeypatch, *options.split(), "--out", str(tmp_path)) == 0
    assert "target not reached" in capsys.readouterr().out
    study, loaded = load(tmp_path)
    detail = study.detail(loaded.fits[0].points[0])
    assert "target not reached in 2 steps at B = 1, 8, 64, 512, population" in detail
    assert not any(loaded.fits[0].points[0].at_edge)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--target recovered=0", "target is recovered=0, 0 items at d = 16; expected a whole"),
        ("--target recovered=2.5", "target is recovered=2.5"),
        (
            "--target recovered=257",
            "expected a whole number from 1 to 256, which is N or the limit",
        ),
        ("--target recovered=inf", "target is recovered=inf"),
        ("--target limit=0", "target is limit=0"),
        ("--target limit=1e9", "or a share above 0 that is no more"),
        (
            "--target loss=0",
            "target is loss=0; expected more than 0.017, which no weight goes below",
        ),
        ("--target loss=0.016", "at alpha = 1.5 and d = 16"),
        ("--target loss=7", "less than the loss of W = 0, log N = 6.931"),
        ("--target loss=nan", "target is 'loss=nan'; expected recovered=ITEMS"),
        ("--target 20", "target is '20'; expected recovered=ITEMS"),
        ("--target speed=3", "target is 'speed=3'"),
        ("--schedules cosine", "which depends on the number of steps"),
        ("--steps 0", "steps is 0"),
        ("--batch-sizes 0", "batch_sizes holds 0"),
        ("--lrs ,", "lrs is []"),
    ],
)
def test_nonsense_is_one_line_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str,
) -> None:
    assert run_cli(monkeypatch, *options.split(), "--out", str(tmp_path / "out")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_targets_are_checked_at_every_d() -> None:
    with pytest.raises(InputError, match=r"from 1 to 64"):
        RaceGrid(dims=(8, 16), num_items=64, target="recovered=65")
    assert RaceGrid(dims=(16,)).batch_sizes_of(1.5, 16) == [1, 4, 16, 64, 256]
