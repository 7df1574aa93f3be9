"""The critical batch size: on curves whose truth is known, and from a command line to a report."""

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
from memsolve.study.critical_batch.batch_scaling import BatchScaling, best
from memsolve.study.critical_batch.critical_batch import critical_batch
from memsolve.study.critical_batch.point import BatchScalingPoint
from memsolve.study.critical_batch.race import Race, RaceGrid, race
from memsolve.study.memory import memory_of
from memsolve.study.training.grid import Trial, TuningKey
from memsolve.study.training.trajectory import trajectory
from memsolve.study.training.tuning import BUDGET

fast = settings(max_examples=50, deadline=None)
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
def test_an_exact_curve_is_found_to_rounding(critical: float, floor: float) -> None:
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
    found = scaling.overhead(seeds(curve(critical, FINE))[None])
    assert found[0] == pytest.approx(1.2 * FINE[0] + 0.2 * critical, rel=0.01)  # to interpolation


@pytest.mark.parametrize("knee", [4, 64, 512])
def test_the_overhead_of_a_sharp_knee_is_found_to_rounding(knee: int) -> None:
    sizes = [2.0**power for power in range(12)]
    scaling = BatchScaling(sizes, horizon=10**9)
    steps = seeds(np.maximum(4096 / np.array(sizes), 4096 / knee))
    assert scaling.estimate(steps, scaling.overhead).value == pytest.approx(1.2 * knee, rel=1e-12)


def test_linear_scaling_starts_where_the_fewest_examples_serve() -> None:
    """Too small a batch may waste examples: it is no measure of what larger ones lose."""
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


def test_what_is_off_the_grid_without_some_seed_is_not_identified() -> None:
    scaling = BatchScaling(SIZES, horizon=10**9)
    steps = seeds(curve(8), count=2)
    steps[1] = curve(0.1)[:, None]
    assert 1 < scaling.critical(steps[None])[0] < 4096
    assert np.isnan(scaling.critical(steps[None, 1:])[0])
    assert "not inside the batches" in scaling.estimate(steps, scaling.critical).note


def test_without_any_run_at_the_target_nothing_is_identified() -> None:
    scaling = BatchScaling(SIZES, horizon=10)
    steps = np.full((3, len(SIZES), 2), np.inf)
    estimate = scaling.estimate(steps, scaling.critical)
    assert estimate.note == "not identified: no batch size reached the target"
    steps[:, -1] = 5  # of the population alone
    estimate = scaling.estimate(steps, scaling.critical)
    assert estimate.note == "not identified: no batch size reached the target"
    assert np.isnan(scaling.model(np.full((1, 3, len(SIZES), 2), np.inf)).critical)


def test_intervals_cover_the_truth_with_the_lr_chosen_anew() -> None:
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


def test_the_choice_of_the_lr_widens_the_interval() -> None:
    """At every batch size either of two trials is best, by the seeds: choosing adds to doubt."""
    steps = np.tile(curve(60)[None, :, None], (4, 1, 2))
    steps[:2, 2:4, 0] *= 3
    steps[2:, 2:4, 1] *= 3
    scaling = BatchScaling(SIZES, horizon=10**9)
    anew = scaling.estimate(steps, scaling.critical).bar
    fixed = scaling.estimate(np.repeat(steps.mean(2, keepdims=True), 2, 2), scaling.critical).bar
    assert anew is not None
    assert fixed is not None
    assert anew[2] - anew[1] > 10 * (fixed[2] - fixed[1])


def test_a_bound_that_is_kept_changes_nothing() -> None:
    critical, horizon = 60.0, 150
    steps = curve(critical)
    steps[steps > horizon] = np.inf
    assert np.isinf(steps[:2]).all()
    model = BatchScaling(SIZES, horizon).model(seeds(steps)[None])
    assert model.critical[0] == pytest.approx(critical, rel=1e-9)


def test_censored_runs_bound_the_curve_where_dropping_them_bends_it() -> None:
    """Seeds that get there are the lucky ones: without the others small batches look too good."""
    critical, horizon = 60.0, 100
    generator = np.random.default_rng(0)
    scaling = BatchScaling(SIZES, horizon)
    bounded, dropped = [], []
    for _ in range(60):
        steps = seeds(curve(critical), 6) * generator.lognormal(0, 0.4, (6, len(SIZES), 1))
        steps[steps > horizon] = np.inf
        bounded.append(scaling.model(steps[None]).critical[0])
        lucky = np.where(np.isfinite(steps), steps, np.nan)
        kept = np.flatnonzero(np.isfinite(steps).sum((0, 2)))
        means = np.nanmean(lucky[:, kept], axis=0)
        rest = BatchScaling([SIZES[place] for place in kept], horizon)
        dropped.append(rest.model(means[None, None]).critical[0])
    ours, theirs = (np.median(np.log(np.array(found) / critical)) for found in (bounded, dropped))
    assert abs(ours) < 0.1
    assert theirs < -0.25


@fast
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.floats(0, 1))
def test_the_trial_with_the_fewest_censored_runs_and_then_steps_is_chosen(
    seed: int, count: int, trials: int, censored: float
) -> None:
    generator = np.random.default_rng(seed)
    steps = generator.integers(1, 50, (1, count, 3, trials)).astype(float)
    steps[generator.random(steps.shape) < censored] = np.inf

    def cost(column: Floats) -> tuple[int, float]:
        return int(np.isinf(column).sum()), float(column[np.isfinite(column)].sum())

    for place, found in enumerate(best(steps)[0]):
        costs = [cost(steps[0, :, place, one]) for one in range(trials)]
        assert found == costs.index(min(costs))


GRID = RaceGrid(
    ("sgd",), dims=(8,), seeds=2, num_items=96, steps=20, target="recovered=3", device="cpu"
)


def made(grid: RaceGrid, batch_size: int | None, lr: float) -> tuple[Race, list[int]]:
    """A race, and what its whole trajectory recovers."""
    one = critical_batch.trial(grid, TuningKey("sgd", 1.5, 8, batch_size), 0, ("constant", lr))
    memory, build = memory_of(grid, one), resolve(grid.optimizers)["sgd"]
    return race(grid, memory, build, one), trajectory(grid, memory, build, one).recovered


@pytest.mark.parametrize("batch_size", [16, None])
def test_a_race_is_the_run_up_to_its_target(batch_size: int | None) -> None:
    found, recovered = made(GRID, batch_size, 20.0)
    assert found.steps is not None
    assert found.recovered == recovered[: found.steps]
    assert max([0, *found.recovered[:-1]]) < 3 <= found.recovered[-1]
    assert (found.noise_at_zero is None) == (batch_size is not None)


def test_a_race_to_a_loss_asks_the_population() -> None:
    found, _ = made(replace(GRID, target="loss=3.5"), 4, 5.0)
    assert found.steps == len(found.loss)
    assert found.loss[-1] <= 3.5 < min(found.loss[:-1])


def test_a_race_that_does_not_get_there_goes_on_to_the_end() -> None:
    found, recovered = made(replace(GRID, target="recovered=60"), None, 20.0)
    assert found == Race(None, recovered, [])
    assert len(recovered) == GRID.steps


def races(steps: dict[float, list[int | None]]) -> dict[Trial, Race]:
    place = TuningKey("sgd", 1.5, 8, 4)
    return {
        critical_batch.trial(GRID, place, seed, ("constant", size)): Race(of, [], [])
        for size, by_seed in steps.items()
        for seed, of in enumerate(by_seed)
    }


def test_the_best_lr_at_the_edge_is_seen_and_widened() -> None:
    assert critical_batch.select(races({1: [9, 9], 4: [5, 6], 16: [7, 7]})).edge is False
    low = critical_batch.select(races({1: [4, 4], 4: [None, 1], 16: [None, None]}))
    assert (low.lr, low.edge) == (1, True)
    given = replace(GRID, lrs=(1, 4, 16))
    more = critical_batch.next_cells(given, races({1: [9, 9], 4: [8, 8], 16: [7, 7]}))
    assert [(one.lr, one.seed) for one in more] == [(64.0, 0), (64.0, 1)]


def test_where_no_race_gets_there_tuning_follows_the_nearest_as_far_as_its_budget() -> None:
    def stored(run: Trial) -> Race:
        return Race(None, [0, round(run.lr)], [])

    trials, runs = critical_batch.cells(replace(GRID, batch_sizes=(4,))), dict[Trial, Race]()
    while trials:
        runs |= {run: stored(run) for run in trials}
        trials = critical_batch.next_cells(GRID, runs)
    one = {run: runs[run] for run in runs if run.batch_size == 4}
    chosen = critical_batch.select(one)
    assert chosen.lr == max(run.lr for run in one)
    assert not chosen.edge
    assert len(one) == BUDGET * GRID.seeds


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["memsolve", "critical-batch", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


SMALL = "--optimizers sgd --dims 8 --num-items 96 --seeds 2 --steps 40 --batch-sizes 1,8,64,512"
SMALL += " --lrs 4,16,64 --target recovered=4"


def test_from_command_line_to_report_with_an_interruption(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, *SMALL.split(), "--out", str(tmp_path)) == 0
    told = capsys.readouterr().out
    assert "B_crit" in told
    assert "?: not identified; the report says why" in told
    summary = (tmp_path / "summary.json").read_bytes()
    cells = tmp_path / "cells.jsonl"
    lines = cells.read_text().splitlines(keepends=True)
    cells.write_text("".join(lines[:-5]) + '{"cell": {"opt')
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
    for name in ("B_crit", "B_20%", "noise scale", "of two batches", "target 4"):
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
    """How many fitted curves the figure has, where a fit has this point alone."""
    summary = Summary("critical-batch", "", environment("cpu"), [replace(fit, points=[point])])
    (axes,) = critical_batch.figures(summary)["critical-batch"].axes
    return sum(len(line.get_xdata()) > 50 for line in axes.lines)  # type: ignore[arg-type]


def test_the_fitted_curve_is_drawn_only_where_it_is_identified() -> None:
    grid = replace(GRID, batch_sizes=(1, 8, 64), lrs=(16.0,), steps=10)
    (fit,) = run(critical_batch, grid).fits
    found = replace(fit.points[0], floor=3.0, slope=8.0, critical=Estimate(8.0, 4.0, 16.0))
    assert fitted_curves(fit, found) == 1
    assert fitted_curves(fit, replace(found, critical=Estimate(None, note="not identified"))) == 0


def test_the_key_says_what_is_not_identified_and_promises_no_fit_that_is_not_drawn() -> None:
    grid = replace(GRID, batch_sizes=(1, 8, 64), lrs=(16.0,), steps=10)
    (fit,) = run(critical_batch, grid).fits  # of one d: no slope
    found = replace(fit.points[0], critical=Estimate(8.0, 4.0, 16.0))
    assert keys(fit, found) == ["estimate and 95% interval over seeds"]
    missing = replace(found, critical=Estimate(None, note="not identified"))
    assert keys(fit, missing) == ["not identified: sgd (alpha = 1.5)"]
    assert "fitted power of d" in keys(replace(fit, estimate=Estimate(1.5)), found)[1]


def keys(fit: Fit[BatchScalingPoint], point: BatchScalingPoint) -> list[str]:
    """What the key of `B_crit` against `d` lists, where a fit has this point alone."""
    summary = Summary("critical-batch", "", environment("cpu"), [replace(fit, points=[point])])
    (key,) = critical_batch.figures(summary)["critical-batch-against-d"].legends
    return [" ".join(text.get_text().split()) for text in key.get_texts()]


def noise_at_zero(cells: Path) -> set[float]:
    entries = [json.loads(line) for line in cells.read_text().splitlines()]
    found = {entry["result"]["noise_at_zero"] for entry in entries if "result" in entry}
    return found - {None}


def test_a_target_that_no_run_reaches_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SMALL.replace("recovered=4", "recovered=60").replace("--steps 40", "--steps 2")
    assert run_cli(monkeypatch, *options.split(), "--out", str(tmp_path)) == 0
    assert "target not reached" in capsys.readouterr().out
    study, loaded = load(tmp_path)
    detail = study.detail(loaded.fits[0].points[0])
    assert "target not reached in 2 steps at B = 1, 8, 64, 512, population" in detail
    assert not any(loaded.fits[0].points[0].edge)


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
def test_nonsense_is_told_in_one_line_before_anything_runs(
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


def test_targets_are_taken_at_every_d() -> None:
    with pytest.raises(InputError, match=r"from 1 to 64"):
        RaceGrid(dims=(8, 16), num_items=64, target="recovered=65")
    assert RaceGrid(dims=(16,)).batch_sizes_of(1.5, 16) == [1, 4, 16, 64, 256]
