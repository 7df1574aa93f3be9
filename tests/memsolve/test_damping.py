"""The largest damping: closed forms, what it is equal to, its study, and the law within it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from memsolve import AssociativeMemory, InputError, theory
from memsolve.cli import run_command
from memsolve.engine import Summary
from memsolve.engine.results.merge import merge
from memsolve.engine.run import run
from memsolve.frequencies import Batch
from memsolve.objective import Objective
from memsolve.optim import Muon
from memsolve.optimizers.registry import resolve
from memsolve.report import write_report
from memsolve.study import Grid, capacity, damping, load, precision
from memsolve.study.one_step.base import draw_batch, laws, methods
from memsolve.study.one_step.damping_curve import (
    LINEAR,
    DampedStep,
    DampingCurve,
    curve_of,
    damping_curve,
)
from memsolve.study.one_step.damping_point import DampingPoint
from memsolve.study.one_step.damping_threshold import KEPT, Threshold, threshold_exponent
from memsolve.training import step_from_zero
from tests.memsolve.test_consistent import change_length, paths

ROOT = Path(__file__).parents[2]
BATCHES = [32, 64, 128, 256, 512]
SMALL = Grid(("muon",), dims=(32, 64), seeds=3, batch_sizes=BATCHES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary[DampingPoint]]:
    """The folder and the summary of a study of `SMALL`."""
    folder = tmp_path_factory.mktemp("damping") / "study"
    return folder, run(damping, SMALL, folder)


def rival_memory(values: torch.Tensor, overlap: float) -> tuple[AssociativeMemory, Batch]:
    """A memory whose item 0 is a rival of all others.

    With the weight `diag(w)` item `i` has the logit `w_i`, and its rival `overlap * w_0`.
    """
    dim = len(values)
    memory = AssociativeMemory(dim, dim, 1.5, seed=0)
    memory.outputs = torch.eye(dim, dtype=torch.float64)
    memory.inputs = torch.eye(dim, dtype=torch.float64)
    memory.inputs[1:, 0] = overlap
    return memory, memory.population()


def test_prescribed_singular_values_are_lost_at_their_own_dampings() -> None:
    """Item `i` is recovered while `h(s_i) > overlap h(1)`, which solves for the damping."""
    overlap = 0.5
    values = torch.cat([torch.ones(1), overlap * 2.0 ** (-torch.arange(1.0, 41) / 4)]).double()
    limits = values * ((1 - overlap**2) / (overlap**2 - values**2)).clamp(min=0).sqrt()
    limits[0] = math.inf
    step = DampedStep(*rival_memory(values, overlap), torch.diag(values))
    assert step.recovered(0.0) == 41
    for octave in range(-14, 4):
        assert step.recovered(2.0**octave) == int((limits > 2.0**octave).sum())

    curve = curve_of(step, scale=1e-2)
    (largest,) = Threshold([curve])(Threshold([curve]).counts[None])
    exact = float(limits.sort(descending=True).values[math.ceil(KEPT * 41) - 1])
    assert abs(math.log2(largest / exact)) < 0.3  # interpolated within an octave


@pytest.mark.parametrize("batch_size", [None, 300])
def test_counts_are_those_of_muon_with_this_relative_damping(batch_size: int | None) -> None:
    memory = AssociativeMemory(2048, 16, 1.5, seed=0)
    batch = draw_batch(memory, batch_size, seed=0)
    objective = Objective(memory, batch)
    curve = damping_curve(memory, batch, scale=16**-1.5)
    counts = {0.0: curve.undamped}
    counts |= {2.0**k: count for k, count in zip(curve.octaves, curve.recovered, strict=True)}
    for relative, count in counts.items():
        name = f"muon:backend=reference:relative_damping={relative}"
        (build,) = resolve({"muon": name}).values()
        weight = step_from_zero(objective, build)
        assert memory.recall(weight, batch.items).count == count


def test_the_curve_does_not_depend_on_the_scale_of_the_gradient() -> None:
    memory = AssociativeMemory(1024, 16, 1.5, seed=0)
    batch = memory.population()
    gradient = -memory.gradient_at_zero(batch)
    curve = curve_of(DampedStep(memory, batch, gradient), 0.01)
    assert curve == curve_of(DampedStep(memory, batch, gradient * 2.0**-20), 0.01)


@pytest.mark.parametrize("scale", [1e-9, 3e2])
def test_the_grid_is_extended_to_the_answer(scale: float) -> None:
    memory = AssociativeMemory(2048, 16, 1.5, seed=0)
    near, far = (damping_curve(memory, memory.population(), each) for each in (0.01, scale))
    first, second = (float(Threshold([each]).estimate().value or 0) for each in (near, far))
    assert first == second > 0


def power_law_curve(largest: int, exponent: float, undamped: int = 10**6) -> DampingCurve:
    """A count that falls from the octave `largest` on as a power of the damping."""
    octaves = list(range(0, -20, -1))
    counts = [
        round(undamped * min(1, 2.0 ** (exponent * (largest - octave)))) for octave in octaves
    ]
    return DampingCurve(octaves, counts, undamped)


def test_the_largest_damping_is_the_one_of_a_known_curve() -> None:
    for exponent in (0.2, 0.45):
        estimate = Threshold([power_law_curve(-9, exponent)]).estimate()
        # interpolated linearly within one octave of a power
        assert estimate.value == pytest.approx(2**-9 * KEPT ** (-1 / exponent), rel=0.05)


def test_a_dip_below_the_threshold_counts_only_if_the_damping_is_weaker() -> None:
    curve = DampingCurve([0, -1, -2, -3, -4], [50, 95, 80, 100, 100], 100)
    low, high = 2.0**-1, 2.0**0
    assert low < float(Threshold([curve]).estimate().value or 0) < high


def test_no_largest_damping_where_sgd_keeps_as_much_or_nothing_is_recovered() -> None:
    flat = DampingCurve([LINEAR, 0, -1], [10, 10, 10], 10)
    assert Threshold([flat]).estimate().note == "not identified: SGD keeps 90%"
    empty = DampingCurve([0, -1], [0, 0], 0)
    assert Threshold([empty]).estimate().note == "not identified: nothing is recovered"


def test_exponents_leave_out_what_is_not_identified() -> None:
    flat = Threshold([DampingCurve([3, 2], [10, 10], 10)] * 2)
    falling = [Threshold([power_law_curve(-3 * k, 0.4)] * 2) for k in range(1, 4)]
    every = [flat, *falling]
    exponent = threshold_exponent([2, 4, 8, 16], every, 3, "too few")
    assert exponent.value == pytest.approx(-3)
    assert threshold_exponent([2, 4, 8, 16], every, 4, "too few").note == "too few"
    assert threshold_exponent([2, 4], falling[:2], 2, "").doubts == "two dimensions"


def test_the_undamped_counts_are_those_of_the_other_studies(
    finished: tuple[Path, Summary[DampingPoint]],
) -> None:
    muon = Grid(("muon:backend=reference",), dims=SMALL.dims, seeds=3)
    (fit,) = run(capacity, muon).fits
    points = finished[1].fits[0].points
    assert [point.undamped for point in points] == [point.recovered for point in fit.points]


def test_a_stronger_damping_recovers_less_and_the_largest_one_falls_with_d(
    finished: tuple[Path, Summary[DampingPoint]],
) -> None:
    (fit,) = finished[1].fits
    assert fit.law == theory.Law(-1.5, "published")
    assert -3 < float(fit.estimate.value or 0) < -1
    for point in fit.points:
        counts = np.mean(point.recovered, 1)
        assert counts[0] < KEPT * np.mean(point.undamped) < counts[-1]
        batches = point.batches
        assert batches is not None
        assert batches.sizes == BATCHES
        peak = max(batches.undamped) / np.mean(point.undamped)
        assert batches.overshoot.value == pytest.approx(peak)
        identified = [each.value for each in batches.dampings if each.value is not None]
        assert max(identified) > identified[-1]


def test_a_study_resumes_reloads_and_draws(
    finished: tuple[Path, Summary[DampingPoint]], tmp_path: Path
) -> None:
    folder, summary = finished
    assert load(folder) == (damping, summary)
    more = Grid(("muon",), dims=(16,), seeds=3)
    run(damping, Grid(("muon",), dims=(16,), seeds=2), tmp_path / "a")
    resumed = run(damping, more, tmp_path / "a", resume=True)
    assert resumed.as_json() == run(damping, more, tmp_path / "b").as_json()
    assert resumed.fits[0].estimate.note == "one dimension, no slope"
    write_report([(damping, summary)], tmp_path / "page")
    figures = {path.stem for path in (tmp_path / "page").glob("*.png")}
    assert figures == {
        "damping-against-d",
        "damping-curves",
        "damping-against-batch",
        "damping-overshoot",
    }
    assert set(damping.figures(resumed)) == {"damping-against-d", "damping-curves"}


@pytest.mark.parametrize("how", ["shorter", "longer", "empty"])
def test_lists_of_other_lengths_are_refused(
    finished: tuple[Path, Summary[DampingPoint]], how: str
) -> None:
    content = json.loads(json.dumps(finished[1].as_json()))
    point = content["fits"][0]["points"][0]
    assert len(list(paths(point))) > 8
    for path in paths(point):
        content["fits"][0]["points"][0] = change_length(point, path, how)
        with pytest.raises(InputError, match="entries along"):
            Summary.from_json(content, DampingPoint)


def test_merged_studies_share_their_columns_and_figures(
    finished: tuple[Path, Summary[DampingPoint]], tmp_path: Path
) -> None:
    population = run(damping, Grid(("muon",), dims=(8, 16), seeds=2), tmp_path / "population")
    folders = finished[0], tmp_path / "population"
    summaries = finished[1], population
    pairs = zip(folders, summaries, strict=True)
    ((study, merged),) = merge([(folder, damping, summary) for folder, summary in pairs])
    first, second = (row.cells for row in study.rows(merged.fits))
    assert first.keys() == second.keys()
    assert "-" in {row["exponent in B [95%]"].text for row in (first, second)}
    assert len(damping.figures(merged)) == 4


@pytest.mark.parametrize(
    "words",
    [
        ["--optimizers", "sgd"],
        ["--optimizers", "muon,sgd"],
        ["--optimizers", "muon:relative_damping=0.1"],
        ["--sweep", "relative_damping=0.1,0.2"],
    ],
)
def test_another_optimizer_is_refused_in_a_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["damping", *words, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "expects muon alone: leave out --optimizers" in message
    assert not (tmp_path / "out").exists()


def test_optimizers_cannot_be_added(
    finished: tuple[Path, Summary[DampingPoint]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["damping", "--add", "sgd", "--to", str(finished[0]), "--out", str(tmp_path / "out")]
    assert run_command(words) == 2
    assert "expects muon alone" in capsys.readouterr().err
    with pytest.raises(InputError, match="expects muon alone"):
        run(damping, Grid({"muon": torch.optim.SGD}, dims=(8,), seeds=1))


def muon(**settings: float) -> Muon:
    return Muon([torch.nn.Parameter(torch.zeros(2, 2))], **{"momentum": 0, **settings})  # type: ignore[arg-type]


def test_the_law_holds_up_to_the_largest_damping_and_no_further() -> None:
    bound = theory.damping_bound(1.5, [(64, 8192), (256, 32768)])
    assert bound.relative == pytest.approx(256**-1.5)
    assert theory.method_of(muon(relative_damping=256**-1.5 / 1.01), bound=bound) == "muon"
    assert theory.method_of(muon(relative_damping=256**-1.5 * 1.01), bound=bound) is None
    assert theory.method_of(muon(relative_damping=256**-1.5 / 1.01)) is None
    assert theory.method_of(muon(relative_damping=1e-4), steps=9, bound=bound) == "muon"


def test_an_absolute_damping_has_the_law_only_of_one_step_without_momentum() -> None:
    bound = theory.damping_bound(2.0, [(32, 10**5)])
    frequency = 6 / math.pi**2
    assert bound.absolute == pytest.approx(frequency * 32**-2.0, rel=1e-3)
    assert theory.method_of(muon(damping=bound.absolute), bound=bound) == "muon"
    assert theory.method_of(muon(damping=1.1 * bound.absolute), bound=bound) is None
    assert theory.method_of(muon(damping=bound.absolute), steps=2, bound=bound) is None
    heavy = muon(damping=bound.absolute, momentum=0.9)
    assert theory.method_of(heavy, bound=bound) is None


def test_a_small_batch_bears_more_damping() -> None:
    assert theory.largest_damping(1.5, 64) == pytest.approx(64**-1.5)
    assert theory.largest_damping(1.5, 64, 10**9) == pytest.approx(64**-1.5)
    assert theory.largest_damping(1.5, 64, 8) == 1 / 8
    memories = [(64, 8192), (128, 16384)]
    assert theory.damping_bound(1.5, memories, 16).relative == 1 / 16
    labels = "muon", "muon:relative_damping=0.01"
    assert methods(Grid(labels, dims=(64, 128)), 1.5) == {"muon": "muon", labels[1]: None}


def test_a_fit_has_the_law_only_if_it_holds_at_all_of_its_d() -> None:
    label = "muon:relative_damping=0.001"
    for dims, expected in (((32, 64), True), ((32, 128), False)):
        law = laws(Grid((label,), alphas=(1.5,), dims=dims), "recovered")[label, 1.5]
        assert (law is not None) is expected
    (fit,) = [
        fit
        for fit in run(precision, Grid((label,), dims=(16,), seeds=1)).fits
        if fit.optimizer == label
    ]
    assert fit.law == theory.law("muon", "recovered", 1.5)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 3.0])
def test_the_laws_of_batches_and_population_meet_where_capacity_saturates(alpha: float) -> None:
    power = theory.batch_damping_law(alpha).exponent
    assert power < -1
    saturation = theory.exponent("muon", "saturation_batch_size", alpha)
    assert (1 - saturation) * -power == pytest.approx(theory.damping_law(alpha).exponent)
    values = [theory.batch_damping(alpha, 64, 8192, size) for size in (100, 200)]
    assert math.log2(values[1] / values[0]) == pytest.approx(power)


def test_the_tables_of_the_page_are_the_recorded_ones() -> None:
    page = (ROOT / "docs" / "studies" / "damping.md").read_text()
    population = load(ROOT / "bench" / "results" / "damping")[1].fits
    for fit in sorted(population, key=lambda fit: fit.alpha):
        values = [f"{damping.value(point)} ({point.constant:.2f})" for point in fit.points]
        row = [f"{fit.alpha:g}", str(fit.estimate), str(fit.law), *values]
        assert "| " + " | ".join(row) + " |" in page
        assert abs(float(fit.estimate.value or 0) + fit.alpha) < 0.25
    (fit,) = load(ROOT / "bench" / "results" / "damping-batches")[1].fits
    for point in fit.points:
        batches = point.batches
        estimates = batches.exponent, batches.overshoot, batches.following_overshoot
        assert "| " + " | ".join([f"{point.dim}", *map(str, estimates)]) + " |" in page
