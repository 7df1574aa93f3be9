"""Training dynamics: laws, tuning, thresholding, and text."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from memsolve import AssociativeMemory, InputError, theory
from memsolve.cli import run_command
from memsolve.engine import Grid
from memsolve.engine.results.load import load_summary
from memsolve.engine.run import run
from memsolve.objective import Objective
from memsolve.optimizers.registry import resolve
from memsolve.study.training.dynamics import dynamics
from memsolve.study.training.grid import TrainingGrid, Trial, TuningKey
from memsolve.study.training.point import dynamics_point
from memsolve.study.training.selection import Selection, select
from memsolve.study.training.trajectory import Trajectory, margins, remaining
from memsolve.study.training.tuning import BUDGET, WIDENINGS, first_lrs, next_lr, unit_lr
from memsolve.training import Schedule, Trainer, schedule_factor

SMALL = TrainingGrid(
    ("sgd", "muon"), dims=(8, 16), seeds=1, steps=6, schedules=("constant", "cosine")
)
KEY = TuningKey("sgd", 1.5, 8, None)


def chosen(runs: Mapping[Trial, Trajectory]) -> Selection:
    return select(runs, TUNED.steps)


def trial(lr: float, *, seed: int = 0) -> Trial:
    return Trial("sgd", 1.5, 8, 512, None, seed, "constant", lr)


def reaching(*recovered: int, loss: float = 1.0) -> Trajectory:
    counts = list(recovered)
    return Trajectory(counts, counts, [loss] * len(counts), 0.0, [], [])


def diverged(*recovered: int) -> Trajectory:
    return replace(reaching(*recovered), diverged=True)


def test_the_most_after_the_last_step_is_selected_then_the_lower_loss_then_the_middle() -> None:
    runs = {trial(1.0): reaching(9, 3), trial(2.0): reaching(1, 5), trial(4.0): reaching(1, 4)}
    assert chosen(runs) == ("constant", 2.0, 1.0, ())
    assert chosen(runs | {trial(4.0): reaching(1, 5, loss=0.5)}) == (
        "constant",
        4.0,
        1.0,
        ("largest learning rate",),
    )
    assert chosen(runs | {trial(4.0): reaching(1, 5)}).lr == 2.0


def test_a_run_that_diverged_is_not_selected_however_many_it_had() -> None:
    runs = {trial(1.0): reaching(1, 2), trial(2.0): diverged(50), trial(4.0): diverged()}
    assert chosen(runs).lr == 1.0


def test_where_every_run_diverges_tuning_follows_what_comes_furthest() -> None:
    runs = {trial(1.0): diverged(3, 3), trial(2.0): diverged(50), trial(4.0): diverged()}
    assert chosen(runs) == ("constant", 1.0, 1.0, ("smallest learning rate",))
    point = dynamics_point(TUNED, KEY, runs)
    assert point.plateau == [0]
    assert dynamics.value(point).endswith(", edge, diverged")


def test_the_mean_over_seeds_counts() -> None:
    runs = {trial(1.0): reaching(0, 9), trial(1.0, seed=1): reaching(0, 1)}
    runs |= {trial(2.0, seed=seed): reaching(0, 6) for seed in (0, 1)}
    assert chosen(runs).lr == 2.0


def tuned(grid: TrainingGrid, recovered: Callable[[Trial], float]) -> dict[Trial, Trajectory]:
    """All trials of the tuning, if each recovers as many items as a function returns."""
    runs: dict[Trial, Trajectory] = {}
    trials = dynamics.cells(grid)
    while trials:
        runs |= {run: reaching(0, round(recovered(run))) for run in trials}
        trials = dynamics.next_cells(grid, runs)
    return runs


def lrs(runs: Iterable[Trial], schedule: str) -> list[float]:
    return sorted({run.lr for run in runs if run.schedule == schedule})


TUNED = replace(SMALL, optimizers=("sgd",), dims=(8,), seeds=2, device="cpu")


@pytest.mark.parametrize("power", range(-2, 3))
def test_every_schedule_has_the_same_budget_and_finds_its_optimum(power: int) -> None:
    middle = {schedule: lrs(dynamics.cells(TUNED), schedule)[1] for schedule in TUNED.schedules}
    optimum = {"constant": middle["constant"] * 3.0**power, "cosine": middle["cosine"]}

    def recovered(run: Trial) -> float:
        return 1000 - 100 * abs(math.log(run.lr / optimum[run.schedule]))

    runs = tuned(TUNED, recovered)
    for schedule in TUNED.schedules:
        assert len(lrs(runs, schedule)) == BUDGET
        distances = [math.log(lr / optimum[schedule]) for lr in lrs(runs, schedule)]
        assert min(map(abs, distances)) < math.log(2)
    assert len(runs) == BUDGET * len(TUNED.schedules) * TUNED.seeds
    assert not chosen(runs).at_edge


def test_only_the_schedule_with_its_optimum_at_an_end_is_widened_and_then_marked() -> None:
    runs = tuned(TUNED, lambda run: 1000 + run.lr * (run.schedule == "cosine"))
    assert len(lrs(runs, "cosine")) == BUDGET + WIDENINGS
    assert len(lrs(runs, "constant")) == BUDGET
    assert chosen(runs).at_edge


def test_the_users_lrs_are_all_tried_and_only_widened() -> None:
    grid = replace(TUNED, lrs=(1.0, 2.0, 4.0))
    inside = tuned(grid, lambda run: 10 * (run.lr == 2))
    assert lrs(inside, "constant") == lrs(inside, "cosine") == [1, 2, 4]
    end = tuned(grid, lambda run: min(run.lr, 16) * (run.schedule == "constant"))
    assert lrs(end, "constant") == [1, 2, 4, 16, 64]
    assert lrs(end, "cosine") == [1, 2, 4]


def test_an_lr_in_a_name_is_its_lr() -> None:
    name = "torch.optim.SGD:lr=0.5"
    grid = replace(TUNED, optimizers=(name, "sgd"), lrs=(1.0, 2.0))
    runs = tuned(grid, lambda run: run.lr)
    named = [run for run in runs if run.optimizer == name]
    assert lrs(named, "constant") == lrs(named, "cosine") == [0.5]
    assert len(lrs([run for run in runs if run.optimizer == "sgd"], "constant")) > 2


def test_the_next_lr_is_beyond_an_end_or_beside_the_best() -> None:
    assert next_lr([1.0, 4.0, 16.0], max) == 64
    assert next_lr([1.0, 4.0, 16.0], min) == 0.25
    nearest = partial(min, key=lambda lr: abs(lr - 5))
    assert next_lr([1.0, 4.0, 16.0], nearest) == 2


@pytest.mark.parametrize("schedule", ["constant", "inverse", "cosine", "linear"])
def test_schedules_begin_with_the_same_mean_learning_rate(schedule: Schedule) -> None:
    mean_factor = np.mean([schedule_factor(schedule, step, 20) for step in range(20)])
    means = [lr * mean_factor for lr in first_lrs(3.0, schedule, 20)]
    assert means == pytest.approx([0.75, 3, 12], rel=0.05)  # two digits


@pytest.mark.parametrize("name", ["sgd", "muon", "torch.optim.AdamW:weight_decay=0"])
def test_the_unit_step_is_as_large_as_a_weight_that_stores_what_d_can_hold(name: str) -> None:
    lr = unit_lr(TrainingGrid((name,), device="cpu"), name, 1.5, 32)
    memory = AssociativeMemory(64 * 32, 32, 1.5, seed=0)
    objective = Objective(memory, memory.population())
    state = Trainer(objective, resolve([name])[name]).step(objective.batch, lr)
    assert state is not None
    items = torch.arange(round(theory.limit(32, memory.num_items)))
    weight = np.log(memory.num_items) * memory.outputs[items].T @ memory.inputs[items]
    assert float(state.weight.norm()) == pytest.approx(float(weight.norm()), rel=0.2)


class Lazy(torch.optim.SGD):
    """Takes no step."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        pass


class Lost(torch.optim.SGD):
    """Goes uphill by random steps."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            assert parameter.grad is not None
            parameter.data += torch.rand(()) * parameter.grad


@pytest.mark.parametrize(("optimizer", "why"), [(Lazy, "no step taken"), (Lost, "uphill, random")])
def test_the_error_says_why_lrs_cannot_be_inferred(
    optimizer: type[torch.optim.Optimizer], why: str
) -> None:
    with pytest.raises(InputError) as caught:
        unit_lr(TrainingGrid({"mine": optimizer}, device="cpu"), "mine", 1.5, 8)
    assert f"({why}), so learning rates cannot be guessed: give them by --lrs" in str(caught.value)


def test_muon_is_ahead_of_sgd_and_grows_past_its_first_step() -> None:
    grid = TrainingGrid(
        ("sgd", "muon"), dims=(32,), num_items=1024, seeds=1, steps=6, schedules=("inverse",)
    )
    sgd, muon = (fit.points[0] for fit in run(dynamics, grid).fits)
    assert muon.recovered[2][0] >= 1.3 * muon.recovered[0][0]
    assert muon.recovered[2][0] > sgd.recovered[5][0]
    assert muon.best_recovered[2] >= muon.recovered[2][0]


def test_the_threshold_drops_recovered_items() -> None:
    memory = AssociativeMemory(50, 8, 1.5, seed=0)
    recovered = torch.zeros(50, dtype=torch.bool)
    recovered[[0, 3]] = True
    left = remaining(memory.population(), recovered)
    assert left.items.tolist() == [i for i in range(50) if i not in (0, 3)]
    assert torch.equal(left.weights, memory.population().weights[left.items])
    grid = replace(
        SMALL, optimizers=("muon",), dims=(16,), steps=4, schedules=("constant",), lrs=(32.0,)
    )
    exact, dropped = (
        run(dynamics, replace(grid, gradient=kind)).fits[0].points[0]
        for kind in ("exact", "thresholded")
    )
    assert exact.recovered[0] == dropped.recovered[0]  # nothing is recovered at zero
    assert exact.loss[2] != dropped.loss[2]


def test_margins_are_quantiles_over_as_many_items_as_a_weight_can_store() -> None:
    memory = AssociativeMemory(100, 8, 1.5, seed=0)
    weight = torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    count = int(np.ceil(theory.limit(8, 100)))
    logits = memory.inputs[:count] @ weight.T @ memory.outputs.T
    own = logits.diagonal().clone()
    logits.fill_diagonal_(-torch.inf)
    expected = np.quantile((own - logits.amax(1)).numpy(), [0.05, 0.25, 0.5, 0.75, 0.95])
    assert margins(memory, weight) == pytest.approx(list(expected))


def test_minibatches_and_the_tidy_table(tmp_path: Path) -> None:
    grid = replace(SMALL, dims=(8,), batch_sizes=(16, 64), lrs=(1.0, 8.0, 64.0), steps=4)
    summary = run(dynamics, grid, tmp_path)
    assert [fit.batch_size for fit in summary.fits] == [16, 16, 64, 64]
    assert {fit.quantity for fit in summary.fits} == {"plateau"}
    with (tmp_path / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    point = summary.fits[0].points[0]
    counts = [
        int(row["value"])
        for row in rows
        if row["optimizer"] == "sgd"
        and row["batch"] == "16"
        and row["quantity"] == "recovered"
        and row["schedule"] == point.schedule
        and float(row["lr"]) == point.lr
    ]
    assert counts == [count for (count,) in point.recovered]
    assert {row["quantity"] for row in rows} >= {
        "batch loss",
        "seconds",
        "top_rank",
        "margin at 50%",
    }


def test_a_run_that_ends_early_counts_nothing_from_then_on_and_is_marked() -> None:
    def until(step: int) -> Trajectory:
        counts = list(range(1, step + 1))
        marks = [mark for mark in (1, 2, 4) if mark <= step]
        return Trajectory(counts, counts, [1.0] * step, 0.1, marks, [[0.0] * 5 for _ in marks])

    grid = replace(SMALL, optimizers=("sgd",), dims=(8,), seeds=2, steps=4)
    early = replace(until(2), diverged=True)
    runs = {trial(1.0): until(4), trial(1.0, seed=1): early}
    point = dynamics_point(grid, KEY, runs)
    assert point.recovered == point.top_rank == [[1, 1], [2, 2], [3, 0], [4, 0]]
    assert [np.mean(point.plateau)] == point.trial_recovered == [2]
    assert len(point.loss) == 2
    assert (point.marks, len(point.margins)) == ([1, 2], 2)
    assert len(point.best_recovered) == 4
    assert point.early_ends == {"diverged": [2]}
    assert dynamics.value(point).endswith(", diverged")
    assert "diverged after step 2 (1 of 2 seeds)" in dynamics.detail(point)
    runs |= {trial(1.0, seed=1): replace(until(3), failed="no")}
    point = dynamics_point(grid, KEY, runs)
    assert point.early_ends == {"failed": [3]}
    assert dynamics.value(point).endswith(", failed")
    assert "failed after step 3 (1 of 2 seeds)" in dynamics.detail(point)


def test_an_lr_at_which_all_runs_diverge_is_marked() -> None:
    grid = replace(SMALL, optimizers=("torch.optim.SGD:weight_decay=1",), lrs=(1e100,))
    (fit,) = run(dynamics, replace(grid, schedules=("constant",))).fits
    assert all(point.plateau == [0] for point in fit.points)
    assert all("diverged after step 3 (1 of 1 seeds)" in dynamics.detail(p) for p in fit.points)
    assert fit.estimate.value is None


def test_a_grid_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="grid is a Grid; dynamics takes a TrainingGrid"):
        run(dynamics, Grid(dims=(8,)))  # type: ignore[misc]


def without_times(path: Path) -> object:
    summary = json.loads(path.read_text())
    for fit in summary["fits"]:
        for point in fit["points"]:
            del point["seconds"]
    return dict(summary)


def test_the_recorded_command_resumes_and_gives_the_same_again(tmp_path: Path) -> None:
    grid = replace(SMALL, num_items=64, steps=3, schedules=("constant",))
    run(dynamics, grid, tmp_path / "complete")
    lines = (tmp_path / "complete/cells.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half/cells.jsonl").write_text("".join(lines[: len(lines) // 2]))
    run(dynamics, grid, tmp_path / "half", resume=True)
    first = without_times(tmp_path / "complete/summary.json")
    assert first == without_times(tmp_path / "half/summary.json")
    assert load_summary(dynamics, tmp_path / "half").fits[1].points[0].recovered


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps is 0; expected a whole number of at least 1"),
        ({"lrs": ()}, "lrs is (); expected a list of finite numbers above 0"),
        ({"lrs": (0.0,)}, "lrs holds 0.0"),
        ({"lrs": (1.0, float("inf"))}, "lrs holds inf"),
        ({"schedules": ("warm",)}, "schedules holds 'warm'; expected names of"),
        ({"schedules": ()}, "schedules is ()"),
        ({"gradient": "rough"}, "gradient is 'rough'; expected one of"),
    ],
)
def test_meaningless_grids_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        TrainingGrid(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--steps 0", "steps is 0"),
        ("--lrs ,", "lrs is []"),
        ("--gradient ,", "--gradient is ','; expected one value"),
        ("--sweep lr=1,2 --lrs 3,4", "expected one of them"),
        ("--optimizers torch.optim.SGD:maximize=True", "1 (uphill), so learning rates cannot be"),
        ("--optimizers torch.optim.SGD:lr=0", "lr is 0 in 'torch.optim.SGD:lr=0'; expected"),
    ],
)
def test_nonsense_on_the_command_line_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    command = ["dynamics", "--dims", "8", *options.split(), "--out", str(tmp_path / "out")]
    assert run_command(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
