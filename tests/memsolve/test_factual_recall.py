"""The worked example: its facts, its model, and what trains more than matrices."""

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
from memsolve.examples.factual_recall.beside import agreement, by_problem
from memsolve.examples.factual_recall.facts import LENGTH, RELATIONS, Facts
from memsolve.examples.factual_recall.figure import by_bucket
from memsolve.examples.factual_recall.model import Model
from memsolve.examples.factual_recall.outcome import Recalled
from memsolve.examples.factual_recall.team import FIRST_STEP, Evaluate, Team, unit_rates
from memsolve.examples.factual_recall.training import Lesson, recollect
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.registry import builder
from memsolve.problem import power_law
from memsolve.stepper import StepError
from memsolve.study import load
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import Problem
from memsolve.study.training.grid import TrainingGrid
from tests.memsolve.test_leaderboard import fit, point

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


def lesson(name: Choice, *, seed: int = 0, grid: TrainingGrid = TINY, dim: int = 8) -> Lesson:
    return Lesson(grid, Facts(64, 1.5, seed=seed), builder(name), dim, 16, seed)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary[Recalled]]:
    folder = tmp_path_factory.mktemp("run")
    return folder, run(study, TINY, folder)


def test_subjects_are_met_by_the_law_and_relations_alike() -> None:
    facts, draws = Facts(128, 1.5, seed=3), 200_000
    words, answers = facts.draw(draws, torch.Generator().manual_seed(0))
    subjects = words.min(1).values  # subjects are the first words
    relations = words[:, -1] - 32
    assert torch.equal(facts.answers[subjects, relations], answers)
    counts = torch.bincount(subjects * RELATIONS + relations, minlength=128)
    expected = draws * power_law(32, 1.5).repeat_interleave(RELATIONS) / RELATIONS
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_squared - 127) < 5 * (2 * 127) ** 0.5


def test_a_prompt_holds_its_subject_once_anywhere_but_at_the_end() -> None:
    facts = Facts(128, 1.5, seed=0)
    words, _ = facts.draw(2000, torch.Generator().manual_seed(1))
    assert words.shape == (2000, LENGTH)
    assert int(words.max()) < facts.num_words
    of_subjects = words < 32
    assert (of_subjects.sum(1) == 1).all()
    assert of_subjects.any(0).tolist() == [True] * (LENGTH - 1) + [False]


@pytest.mark.parametrize("num_facts", [32, 256, 4096])
def test_buckets_part_the_facts_at_equal_ratios_of_the_rank(num_facts: int) -> None:
    facts = Facts(num_facts, 1.5, seed=0)
    buckets, subjects = facts.buckets, num_facts // RELATIONS
    assert [rank for bucket in buckets for rank in range(subjects)[bucket]] == [*range(subjects)]
    assert sum(facts.sizes) == num_facts
    ratios = np.diff(np.log([1, *(bucket.stop for bucket in buckets)]))
    assert np.ptp(ratios) < 0.3
    assert facts.by_bucket(torch.ones(num_facts, dtype=torch.bool)) == facts.sizes
    only_last = torch.arange(num_facts) == num_facts - 1
    assert facts.by_bucket(only_last) == [0, 0, 1]


def test_what_is_met_is_what_is_drawn() -> None:
    facts, generator = Facts(256, 1.3, seed=0), torch.Generator().manual_seed(0)
    seen = []
    for _ in range(300):
        words, _ = facts.draw(50, generator)
        fact = words.min(1).values * RELATIONS + words[:, -1] - 64
        seen.append(facts.by_bucket(torch.isin(torch.arange(256), fact)))
    errors = np.mean(seen, axis=0) - facts.met(50)
    assert (np.abs(errors) < 5 * np.std(seen, axis=0) / 300**0.5 + 1e-9).all()


def test_a_model_with_room_and_time_recalls_nearly_every_fact() -> None:
    given = Lesson(
        replace(TINY, steps=150), Facts(32, 1.1, seed=0), builder("torch.optim.AdamW"), 32, 128, 0
    )
    found = recollect(given, "linear", 0.02)
    assert found.complete
    assert found.marks == [1, 2, 4, 8, 16, 32, 64, 128, 150]
    assert found.recovered[0] < 8
    assert found.recovered[-1] >= 30


def test_the_subject_and_the_relation_are_both_needed() -> None:
    """Other noise changes nothing that was learnt; another relation asks for another fact."""
    words = Facts(64, 1.5, seed=0).all().words
    model = Model(84, 8)
    with torch.no_grad():
        assert not torch.allclose(model(words)[0], model(words)[1])
        assert not torch.allclose(model(words)[0], model(words)[RELATIONS])


@pytest.mark.parametrize(
    "name",
    ["sgd", "torch.optim.AdamW", "torch.optim.Adafactor", "muon:momentum=0.95", "torch.optim.Muon"],
)
def test_a_first_step_of_unit_size_is_one(name: str) -> None:
    given = lesson(name)
    prompts = next(given.batches())
    rates = given.unit_rates()
    model = given.model()
    team = Team(given.build, model)
    params = [member.param_groups[0]["params"] for member in team.members]
    starts = [parameters_to_vector(those).detach() for those in params]
    team.step(Evaluate(model, prompts), rates)
    for those, start in zip(params, starts, strict=True):
        move = parameters_to_vector(those).detach() - start
        assert float(move.norm() / start.norm()) == pytest.approx(FIRST_STEP, rel=0.05)


def names_of(team: Team, model: Model) -> list[set[str]]:
    named = {id(param): name for name, param in model.named_parameters()}
    groups = ([p for g in member.param_groups for p in g["params"]] for member in team.members)
    return [{named[id(param)] for param in params} for params in groups]


class Grouped(torch.optim.SGD):
    """Like Muons that train vectors too, where a group says so."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.param_groups[0]["use_muon"]


def test_what_is_for_matrices_gets_those_between_embeddings_and_head() -> None:
    model = lesson("sgd").model()
    every = {name for name, _ in model.named_parameters()}
    layers = {"query", "key", "value", "mix", "up", "down"}
    matrices = {f"{layer}.weight" for layer in layers}
    assert names_of(Team(builder("sgd"), model), model) == [every]
    for choice in ("muon", "torch.optim.Muon", Grouped):
        assert names_of(Team(builder(choice), model), model) == [matrices, every - matrices]
    assert every - matrices == {"words", "places", "head", "up.bias", "down.bias"}


def test_a_closure_computes_again_only_where_the_model_has_moved() -> None:
    given = lesson("sgd")
    model = given.model()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    evaluate = Evaluate(model, next(given.batches()))
    first = evaluate()
    wanted = [param.grad.clone() for param in model.parameters() if param.grad is not None]
    for param in model.parameters():  # as some optimizers leave it
        param.grad = None
    assert evaluate() == first
    assert len(calls) == 1
    found = [param.grad for param in model.parameters() if param.grad is not None]
    assert all(map(torch.equal, found, wanted))
    with torch.no_grad():
        model.head.add_(1)
    evaluate()
    assert len(calls) == 2


def test_closures_are_called() -> None:
    found = recollect(lesson("torch.optim.LBFGS:max_iter=2"), "constant", 0.1)
    assert found.complete
    assert found.loss[-1] < found.loss[0]


class Diverges(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                param.data.mul_(torch.nan)


class Fails(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise RuntimeError("no more")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("newton", "Hessian of a memory"),
        ("torch.optim.SGD:foo=3", "unexpected keyword argument 'foo'"),
        ("torch.optim.SGD:weight_decay=-1", "Invalid weight_decay value"),
        (Diverges, "moves to NaN or infinity"),
        (Fails, "no more"),
        (lambda params: torch.optim.SGD(params[:1]), "does not train the parameters that it was"),
    ],
)
def test_what_cannot_train_it_is_told(choice: Choice, words: str) -> None:
    given = lesson(choice)
    with pytest.raises(StepError, match=words) as told:
        unit_rates(given.build, given.model(), next(given.batches()))
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("choice", "failed"), [(Diverges, ""), (Fails, "its step failed: no more")]
)
def test_a_run_that_ends_early_says_so(choice: Choice, failed: str) -> None:
    found = recollect(lesson(choice), "linear", 0.1)
    assert (found.failed, found.diverged) == (failed, not failed)
    assert found.marks == found.recovered == []


def test_a_run_repeated_gives_the_same(summary: tuple[Path, Summary[Recalled]]) -> None:
    again = run(study, TINY)

    def numbers(run: Summary[Recalled]) -> list[Recalled]:
        return [replace(fit.points[0], seconds=0.0) for fit in run.fits]

    assert numbers(again) == numbers(summary[1])


def test_the_seed_that_tunes_is_not_shown(summary: tuple[Path, Summary[Recalled]]) -> None:
    folder, run = summary
    lines = (folder / "points.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    sgd = [row for row in rows if row["optimizer"] == "sgd" and row["quantity"] == "recovered"]
    tried = {row["lr"] for row in sgd if row["seed"] == "0"}
    shown = {row["lr"] for row in sgd if row["seed"] != "0"}
    assert {row["seed"] for row in sgd} == {"0", "1", "2"}
    assert 5 <= len(tried) <= 9
    assert len(shown) == 1
    assert shown < tried
    (point,) = next(fit.points for fit in run.fits if fit.optimizer == "sgd")
    ends = [row for row in sgd if row["seed"] != "0" and row["step"] == "5"]
    assert point.totals.tolist() == [float(row["value"]) for row in ends]


def test_the_best_is_first_and_read_back(summary: tuple[Path, Summary[Recalled]]) -> None:
    folder, run = summary
    totals = [fit.points[0].totals.mean() for fit in run.fits]
    assert totals == sorted(totals, reverse=True)
    found, again = load(folder)
    assert found is study
    assert again.fits == run.fits


def test_its_figure_has_a_panel_a_bucket(summary: tuple[Path, Summary[Recalled]]) -> None:
    figure = by_bucket(summary[1])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    for title, name in zip(titles, ("head, 12", "torso, 12", "tail, 40"), strict=True):
        assert title.startswith(name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_items": 66}, "expected a multiple of 4"),
        ({"num_items": 28}, "of at least 32"),
        ({"batch_sizes": None}, "how many prompts a step has"),
        ({"gradient": "thresholded"}, "expected 'exact'"),
        ({"optimizers": ("newton",)}, "optimizer 'newton' cannot train the model: "),
        ({"optimizers": ("torch.optim.Nothing",)}, "does not import"),
    ],
)
def test_nonsense_is_told_in_a_line(changes: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        run(study, replace(TINY, **changes))
    assert len(str(told.value).splitlines()) == 1


def test_its_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["it", "--num-items", "66", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("memsolve.examples.factual_recall", run_name="__main__")
    assert ended.value.code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("memsolve: error: num_items is 66; expected a multiple of 4")
    assert not (tmp_path / "out").exists()


def test_orders_agree_or_not() -> None:
    ours = {"a": 1.0, "b": 2.0, "c": 3.0, "mine": 9.0}
    same = agreement(ours, {"a": 10, "b": 20, "c": 30})
    assert same.tau == pytest.approx(1)
    assert same.common == 3
    assert agreement(ours, {"c": 10, "b": 20, "a": 30, "theirs": 0}).tau == pytest.approx(-1)
    with pytest.raises(InputError, match="1 optimizers are in both"):
        agreement(ours, {"a": 1})


def test_each_problem_of_a_leaderboard_has_its_agreement(
    summary: tuple[Path, Summary[Recalled]],
) -> None:
    run = summary[1]
    best, worst = (fit.optimizer for fit in run.fits)
    named = {best: point([8, 9], [1, 1]), worst: point([5, 6], [2, 2])}
    of_alpha = {
        alpha: [fit(name, of, alpha=alpha) for name, of in named.items()] for alpha in (1.5, 2.0)
    }
    board: Summary[LeaderboardPoint] = Summary("leaderboard", "", {}, of_alpha[1.5] + of_alpha[2.0])
    assert len({one.points[0].totals.mean() for one in run.fits}) == 2
    taus = {problem: found.tau for problem, found in by_problem(run, board).items()}
    assert taus == {
        Problem(1.5, 8, 128, 1): pytest.approx(1),
        Problem(1.5, 8, 128, 10): pytest.approx(-1),
    }
    with pytest.raises(InputError, match="none of the alphas"):
        by_problem(run, replace(board, fits=of_alpha[2.0]))
