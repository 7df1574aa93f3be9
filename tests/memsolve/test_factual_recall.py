"""The worked example: its facts, its model, and optimizers of more than matrices."""

import runpy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from memsolve import InputError
from memsolve.engine import Summary
from memsolve.engine.run import run
from memsolve.examples.factual_recall import study
from memsolve.examples.factual_recall.facts import NUM_RELATIONS, PROMPT_LENGTH, Facts
from memsolve.examples.factual_recall.figure import recall_figure
from memsolve.examples.factual_recall.model import FactModel
from memsolve.examples.factual_recall.optimizer_group import (
    UNIT_STEP,
    LossClosure,
    OptimizerGroup,
    unit_lrs,
)
from memsolve.examples.factual_recall.order_agreement import agreement_by_problem
from memsolve.examples.factual_recall.point import RecallPoint
from memsolve.examples.factual_recall.training import RecallTask, measure_recall
from memsolve.faults import StepError
from memsolve.frequencies import power_law
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.registry import builder
from memsolve.study import load
from memsolve.study.leaderboard.tracks import Problem
from memsolve.study.training.grid import Candidate, TrainingGrid
from tests.memsolve.report_cases import board_fit

TINY = TrainingGrid(
    ("sgd", "muon:momentum=0.95"),
    dims=(8,),
    seeds=2,
    batch_sizes=(16,),
    steps=5,
    schedules=("linear",),
    num_items=64,
    device="cpu",
    dtype="float32",
)


def make_task(name: Choice) -> RecallTask:
    return RecallTask(TINY, Facts(64, 1.5, seed=0), builder(name), 8, 16, 0)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary[RecallPoint]]:
    folder = tmp_path_factory.mktemp("run")
    return folder, run(study, TINY, folder)


def test_subjects_follow_the_power_law_and_relations_are_uniform() -> None:
    facts, draws = Facts(128, 1.5, seed=3), 200_000
    tokens, answers = facts.sample(draws, torch.Generator().manual_seed(0))
    subjects = tokens.min(1).values  # their tokens come first
    relations = tokens[:, -1] - 32
    assert torch.equal(facts.answers[subjects, relations], answers)
    counts = torch.bincount(subjects * NUM_RELATIONS + relations, minlength=128)
    expected = draws * power_law(32, 1.5).repeat_interleave(NUM_RELATIONS) / NUM_RELATIONS
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_squared - 127) < 5 * (2 * 127) ** 0.5


def test_a_prompt_contains_its_subject_once_anywhere_but_at_the_end() -> None:
    facts = Facts(128, 1.5, seed=0)
    tokens, _ = facts.sample(2000, torch.Generator().manual_seed(1))
    assert tokens.shape == (2000, PROMPT_LENGTH)
    assert int(tokens.max()) < facts.vocabulary_size
    is_subject = tokens < 32
    assert (is_subject.sum(1) == 1).all()
    assert is_subject.any(0).tolist() == [True] * (PROMPT_LENGTH - 1) + [False]


@pytest.mark.parametrize("num_facts", [32, 256, 4096])
def test_buckets_split_the_facts_at_equal_ratios_of_the_rank(num_facts: int) -> None:
    facts = Facts(num_facts, 1.5, seed=0)
    buckets, subjects = facts.buckets, num_facts // NUM_RELATIONS
    assert [rank for bucket in buckets for rank in range(subjects)[bucket]] == [*range(subjects)]
    assert sum(facts.bucket_sizes) == num_facts
    ratios = np.diff(np.log([1, *(bucket.stop for bucket in buckets)]))
    assert np.ptp(ratios) < 0.3
    assert facts.count_by_bucket(torch.ones(num_facts, dtype=torch.bool)) == facts.bucket_sizes
    only_last = torch.arange(num_facts) == num_facts - 1
    assert facts.count_by_bucket(only_last) == [0, 0, 1]


def test_the_expected_number_of_distinct_facts_is_that_of_samples() -> None:
    facts, generator = Facts(256, 1.3, seed=0), torch.Generator().manual_seed(0)
    seen = []
    for _ in range(300):
        tokens, _ = facts.sample(50, generator)
        fact = tokens.min(1).values * NUM_RELATIONS + tokens[:, -1] - 64
        seen.append(facts.count_by_bucket(torch.isin(torch.arange(256), fact)))
    errors = np.mean(seen, axis=0) - facts.expected_distinct(50)
    assert (np.abs(errors) < 5 * np.std(seen, axis=0) / 300**0.5 + 1e-9).all()


def test_a_large_model_recovers_nearly_every_fact() -> None:
    task = RecallTask(
        replace(TINY, steps=150), Facts(32, 1.1, seed=0), builder("torch.optim.AdamW"), 32, 128, 0
    )
    result = measure_recall(task, Candidate("linear", 0.02))
    assert result.complete
    assert result.marks == [1, 2, 4, 8, 16, 32, 64, 128, 150]
    assert result.recovered[0] < 8
    assert result.recovered[-1] >= 30


def test_the_subject_and_the_relation_are_both_needed() -> None:
    """The logits depend on both."""
    tokens = Facts(64, 1.5, seed=0).all_prompts().tokens
    model = FactModel(84, 8)
    with torch.no_grad():
        assert not torch.allclose(model(tokens)[0], model(tokens)[1])
        assert not torch.allclose(model(tokens)[0], model(tokens)[NUM_RELATIONS])


@pytest.mark.parametrize(
    "name",
    ["sgd", "torch.optim.AdamW", "torch.optim.Adafactor", "muon:momentum=0.95", "torch.optim.Muon"],
)
def test_a_first_step_of_unit_size_is_one(name: str) -> None:
    task = make_task(name)
    prompts = next(task.batches())
    lrs = task.unit_lrs()
    model = task.initial_model()
    group = OptimizerGroup(task.build, model)
    params = [optimizer.param_groups[0]["params"] for optimizer in group.optimizers]
    starts = [parameters_to_vector(those).detach() for those in params]
    group.step(LossClosure(model, prompts), lrs)
    for those, start in zip(params, starts, strict=True):
        move = parameters_to_vector(those).detach() - start
        assert float(move.norm() / start.norm()) == pytest.approx(UNIT_STEP, rel=0.05)


def names_of(group: OptimizerGroup, model: FactModel) -> list[set[str]]:
    names = {id(param): name for name, param in model.named_parameters()}
    return [
        {names[id(param)] for each in optimizer.param_groups for param in each["params"]}
        for optimizer in group.optimizers
    ]


class Grouped(torch.optim.SGD):
    """Like Muons that train vectors too, where a group says so."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.param_groups[0]["use_muon"]


def test_an_optimizer_of_matrices_trains_those_between_embeddings_and_head() -> None:
    model = make_task("sgd").initial_model()
    every = {name for name, _ in model.named_parameters()}
    layers = {"query", "key", "value", "output", "up", "down"}
    matrices = {f"{layer}.weight" for layer in layers}
    rest = every - matrices
    assert names_of(OptimizerGroup(builder("sgd"), model), model) == [every]
    for choice in ("muon", "torch.optim.Muon", Grouped):
        assert names_of(OptimizerGroup(builder(choice), model), model) == [matrices, rest]
    embeddings = {"token_embeddings", "position_embeddings"}
    assert rest == embeddings | {"head", "up.bias", "down.bias"}


def test_a_closure_computes_again_only_where_the_model_has_moved() -> None:
    task = make_task("sgd")
    model = task.initial_model()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    closure = LossClosure(model, next(task.batches()))
    first = closure()
    expected = [param.grad.clone() for param in model.parameters() if param.grad is not None]
    for param in model.parameters():  # as some optimizers leave it
        param.grad = None
    assert closure() == first
    assert len(calls) == 1
    gradients = [param.grad for param in model.parameters() if param.grad is not None]
    assert all(map(torch.equal, gradients, expected))
    with torch.no_grad():
        model.head.add_(1)
    closure()
    assert len(calls) == 2


def test_closures_are_called() -> None:
    result = measure_recall(make_task("torch.optim.LBFGS:max_iter=2"), Candidate("constant", 0.1))
    assert result.complete
    assert result.loss[-1] < result.loss[0]


class Diverges(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                param.data.mul_(torch.nan)


class Fails(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise RuntimeError("no more")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("newton", "Hessian of a memory"),
        ("torch.optim.SGD:foo=3", "unexpected keyword argument 'foo'"),
        ("torch.optim.SGD:weight_decay=-1", "Invalid weight_decay value"),
        (Diverges, "moves to NaN or infinity"),
        (Fails, "no more"),
        (lambda params: torch.optim.SGD(params[:1]), "does not train the parameters that it was"),
    ],
)
def test_an_optimizer_that_cannot_train_is_refused(choice: Choice, message: str) -> None:
    task = make_task(choice)
    with pytest.raises(StepError, match=message) as error:
        unit_lrs(task.build, task.initial_model(), next(task.batches()))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("choice", "failed"), [(Diverges, ""), (Fails, "its step failed: no more")]
)
def test_a_run_that_ends_early_has_its_reason(choice: Choice, failed: str) -> None:
    result = measure_recall(make_task(choice), Candidate("linear", 0.1))
    assert (result.failed, result.diverged) == (failed, not failed)
    assert result.marks == result.recovered == []


def test_a_run_repeated_gives_the_same(summary: tuple[Path, Summary[RecallPoint]]) -> None:
    again = run(study, TINY)

    def numbers(run: Summary[RecallPoint]) -> list[RecallPoint]:
        return [replace(fit.points[0], seconds=0.0) for fit in run.fits]

    assert numbers(again) == numbers(summary[1])


def test_the_tuning_seed_is_not_reported(summary: tuple[Path, Summary[RecallPoint]]) -> None:
    folder, run = summary
    lines = (folder / "points.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    sgd = [row for row in rows if row["optimizer"] == "sgd" and row["quantity"] == "recovered"]
    tuned = {row["lr"] for row in sgd if row["seed"] == "0"}
    reported = {row["lr"] for row in sgd if row["seed"] != "0"}
    assert {row["seed"] for row in sgd} == {"0", "1", "2"}
    assert 5 <= len(tuned) <= 9
    assert len(reported) == 1
    assert reported < tuned
    (point,) = next(fit.points for fit in run.fits if fit.optimizer == "sgd")
    ends = [row for row in sgd if row["seed"] != "0" and row["step"] == "5"]
    assert point.totals.tolist() == [float(row["value"]) for row in ends]


def test_the_best_optimizer_is_first(summary: tuple[Path, Summary[RecallPoint]]) -> None:
    folder, run = summary
    totals = [fit.points[0].totals.mean() for fit in run.fits]
    assert totals == sorted(totals, reverse=True)
    recorded_study, again = load(folder)
    assert recorded_study is study
    assert again.fits == run.fits


def test_the_figure_has_a_panel_for_each_bucket(summary: tuple[Path, Summary[RecallPoint]]) -> None:
    figure = recall_figure(summary[1])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    for title, name in zip(titles, ("head, 12", "torso, 12", "tail, 40"), strict=True):
        assert title.startswith(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_items": 66}, "expected a multiple of 4"),
        ({"num_items": 28}, "of at least 32"),
        ({"batch_sizes": None}, "how many prompts a step has"),
        ({"gradient": "thresholded"}, "expected 'exact'"),
        ({"optimizers": ("newton",)}, "optimizer 'newton' cannot train the model: "),
        ({"optimizers": ("torch.optim.Nothing",)}, "does not import"),
    ],
)
def test_an_invalid_grid_is_refused_in_a_line(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        run(study, replace(TINY, **changes))
    assert len(str(error.value).splitlines()) == 1


def test_the_command_of_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["it", "--num-items", "66", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("memsolve.examples.factual_recall", run_name="__main__")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("memsolve: error: num_items is 66; expected a multiple of 4")
    assert not (tmp_path / "out").exists()


def test_each_problem_of_a_leaderboard_has_its_agreement(
    summary: tuple[Path, Summary[RecallPoint]],
) -> None:
    run = summary[1]
    best, worst = (fit.optimizer for fit in run.fits)
    counts = {best: [[8, 9], [1, 1]], worst: [[5, 6], [2, 2]]}
    fits = {
        alpha: [board_fit(name, alpha, recovered) for name, recovered in counts.items()]
        for alpha in (1.5, 2.0)
    }
    board = Summary("leaderboard", "", {}, fits[1.5] + fits[2.0])
    assert len({fit.points[0].totals.mean() for fit in run.fits}) == 2
    agreements = agreement_by_problem(run, board)
    assert {problem: agreement.tau for problem, agreement in agreements.items()} == {
        Problem("one-step", 1.5, 8, 128, None, 1): pytest.approx(1),
        Problem("full-gradient", 1.5, 8, 128, None, 10): pytest.approx(-1),
    }
    with pytest.raises(InputError, match="none of the alphas"):
        agreement_by_problem(run, replace(board, fits=fits[2.0]))
