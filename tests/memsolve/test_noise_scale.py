"""The noise-scale study: beside saturation, resumed, refused, and its laws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memsolve import InputError, theory
from memsolve.cli import run_command
from memsolve.engine import Grid, Summary
from memsolve.engine.run import run
from memsolve.frequencies import power_law
from memsolve.problem import AssociativeMemory
from memsolve.recall import Recall
from memsolve.report.drawing import figure_style
from memsolve.study import load, noise_scale, saturation
from memsolve.study.critical_batch.noise import noise_scales
from memsolve.study.critical_batch.noise_scale import (
    SCALES,
    NoisePoint,
    format_ratio,
    noise_scales_after,
    scale_fit,
)
from memsolve.study.formatting import format_estimate, format_value

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/studies/noise-scale.md"
GRID = Grid(("sgd", "muon"), dims=(16, 32), seeds=3, num_items=2048)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of `GRID`, which no test changes."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    run(noise_scale, GRID, folder)
    return folder


@pytest.fixture(scope="module")
def summary(finished: Path) -> Summary[NoisePoint]:
    study, loaded = load(finished)
    assert study is noise_scale
    return loaded


def test_the_saturation_batch_size_is_that_of_saturation(summary: Summary[NoisePoint]) -> None:
    for fit, other in zip(summary.fits, run(saturation, GRID).fits, strict=True):
        assert (fit.estimate, fit.law) == (other.estimate, other.law)
        assert [point.saturation for point in fit.points] == [
            point.estimate for point in other.points
        ]


def test_a_point_has_the_scales_of_its_memories_and_their_ratios(
    summary: Summary[NoisePoint],
) -> None:
    sgd, muon = (fit.points[-1] for fit in summary.fits)
    for seed in range(3):
        memory = AssociativeMemory(2048, 32, 1.5, seed=seed)
        expected = pytest.approx(list(noise_scales(memory)))
        for point in (sgd, muon):
            assert [point.scales[0][seed], point.scales[1][seed]] == expected
    for point in (sgd, muon):
        for index, ratio in enumerate(point.ratios):
            assert point.saturation.value
            scale = np.mean(point.scales[index])
            assert ratio.value == pytest.approx(scale / point.saturation.value)
    assert np.mean(muon.scales[2]) > 3 * np.mean(sgd.scales[2])


def test_the_gradient_after_a_step_is_that_of_the_items_not_recovered() -> None:
    memory = AssociativeMemory(100, 4, 1.5, seed=0)
    hits = torch.arange(100) % 3 == 0
    after = noise_scales_after(memory, Recall(torch.arange(100), hits))
    assert after == noise_scales(memory, items=torch.arange(100)[~hits])
    everything = Recall(torch.arange(100), torch.ones(100, dtype=torch.bool))
    with pytest.raises(InputError, match=r"recovers all 100 items.*choose a larger --num-items"):
        noise_scales_after(memory, everything)


def test_it_resumes_to_the_same_summary(finished: Path, tmp_path: Path) -> None:
    cells = (finished / "cells.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cells.jsonl").write_bytes(b"".join(cells[:-7]) + cells[-1][:30])
    run(noise_scale, GRID, tmp_path, resume=True)
    first, second = ((each / "summary.json").read_bytes() for each in (finished, tmp_path))
    assert first == second


def test_the_tables_of_the_page_are_the_recorded_ones() -> None:
    page = PAGE.read_text()
    for fit in load(ROOT / "bench/results/noise-scale")[1].fits:
        first, law, *others = (cell.text for cell in noise_scale.columns(fit).values())
        names = f"{fit.alpha:g}", f"`{fit.optimizer}`"
        assert "| " + " | ".join([*names, f"{first} ({law})", *others]) + " |" in page
        ratios = map(format_ratio, fit.points[-1].ratios)
        assert "| " + " | ".join([*names, *ratios]) + " |" in page


def test_the_page_compares_the_recorded_critical_batch_sizes() -> None:
    for fit in load(ROOT / "bench/results/critical-batch")[1].fits:
        for point in fit.points:
            identified = point.critical.value is not None
            scales = (
                point.noise_at_zero,
                point.nuclear_at_zero,
                point.noise_at_target,
                point.nuclear_at_target,
            )
            cells = [
                f"`{fit.optimizer}`",
                str(point.dim),
                format_estimate(point.critical) if identified else "not identified",
                *(format_value(scale.value) for scale in scales),
            ]
            assert "| " + " | ".join(cells) + " |" in PAGE.read_text()


def test_too_few_facts_are_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = "noise-scale --dims 32 --num-items 256 --alpha 1.2 --out nowhere"
    assert run_command(words.split()) != 0
    message = capsys.readouterr().err
    assert "num_items is 256 at d = 32; expected at least" in message
    assert "choose a larger --num-items" in message


def test_the_table_has_every_exponent_with_its_law(summary: Summary[NoisePoint]) -> None:
    sgd, muon = map(noise_scale.columns, summary.fits)
    assert [title for title in sgd if title.startswith("exponent of")] == [
        "exponent of B* [95%]",
        *(f"exponent of {scale} [95%]" for scale in SCALES),
    ]
    assert "(0.50 derived)" in sgd["exponent of Euclidean, after the step [95%]"].text
    assert "(2.00 derived)" in muon["exponent of nuclear, after the step [95%]"].text
    unknown = noise_scale.columns(replace(summary.fits[0], law=None))
    assert "derived" not in unknown["exponent of nuclear, after the step [95%]"].text
    for point in summary.fits[1].points:
        detail = noise_scale.detail(point)
        assert all(str(scale) in detail for scale in SCALES)
        assert "times B*" in detail


@pytest.mark.parametrize("width", [11.0, 4.4])
def test_the_figure_names_every_curve_in_every_panel(
    summary: Summary[NoisePoint], width: float
) -> None:
    with figure_style(width):
        (figure,) = noise_scale.figures(summary).values()
    assert len(figure.axes) == 2
    for axes in figure.axes:
        names = [text.get_text() for text in axes.texts]
        assert len(names) == 5
        for scale in SCALES:
            assert any(str(scale) in name for name in names)


def test_batches_that_identify_nothing_are_drawn_and_described() -> None:
    grid = replace(GRID, dims=(16,), batch_sizes=(4,), seeds=2)
    outcome = run(noise_scale, grid)
    (point,) = outcome.fits[1].points
    assert point.saturation.value is None
    assert all(ratio.value is None for ratio in point.ratios)
    assert "not identified" in noise_scale.detail(point)
    assert noise_scale.value(point).startswith("? / ")
    assert noise_scale.figures(outcome)


def exponents_of_sums(norm: str, alpha: float, recovered: float) -> float:
    """The slope of the noise scale of orthogonal gradients that end at rank d, isotropic beyond."""
    logs = []
    dims = 2.0 ** np.array([18, 20])
    for dim in dims:
        first, last = round(dim**recovered), round(dim)
        ranks = np.arange(first, last + 1, dtype=float)
        if norm == "euclidean":
            logs.append(np.log(ranks**-alpha @ np.ones(len(ranks)) / (ranks ** (-2 * alpha)).sum()))
        else:
            logs.append(2 * np.log((ranks ** (-alpha / 2)).sum() / (ranks**-alpha).sum()))
    return float(np.diff(logs)[0] / np.diff(np.log(dims))[0])


@pytest.mark.parametrize("norm", ["euclidean", "nuclear"])
@pytest.mark.parametrize("alpha", [1.5, 3.0])
@pytest.mark.parametrize("recovered", [0.0, 0.5])
def test_the_derived_exponents_are_those_of_power_laws(
    norm: str, alpha: float, recovered: float
) -> None:
    expected = theory.noise_scale_exponent(norm, alpha, recovered)  # type: ignore[arg-type]
    assert exponents_of_sums(norm, alpha, recovered) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("method", ["sgd", "muon", "newton"])
def test_after_a_step_the_euclidean_exponent_is_that_of_saturation(
    method: theory.Method, alpha: float
) -> None:
    recovered = theory.exponent(method, "recovered", alpha)
    saturated = theory.exponent(method, "saturation_batch_size", alpha)
    assert theory.noise_scale_exponent("euclidean", alpha, recovered) == pytest.approx(saturated)
    nuclear = theory.noise_scale_exponent("nuclear", alpha, recovered)
    assert (nuclear == pytest.approx(saturated)) == (method != "sgd" or alpha >= 2)
    assert theory.noise_scale_exponent("euclidean", alpha) == 0


def test_both_norms_have_one_power_once_d_items_are_recovered() -> None:
    for norm in ("euclidean", "nuclear"):
        below, above = (
            theory.noise_scale_exponent(norm, 1.5, recovered) for recovered in (1 - 1e-9, 1 + 1e-9)
        )
        assert below == pytest.approx(above) == pytest.approx(1.5)


def test_the_euclidean_scale_without_frequent_items_is_a_ratio_of_frequencies() -> None:
    """Up to the norms of the embeddings, in a memory with nearly orthogonal gradients."""
    memory = AssociativeMemory(4000, 256, 1.5, seed=0)
    rest = power_law(4000, 1.5)[100:]
    measured = noise_scales(memory, items=torch.arange(100, 4000)).euclidean
    assert measured == pytest.approx(float(rest.sum() / rest.square().sum()), rel=0.1)


def test_the_exponents_of_a_fit_are_slopes_of_its_points(summary: Summary[NoisePoint]) -> None:
    fit = summary.fits[1]
    for index, scale in enumerate(SCALES):
        small, large = (np.mean(point.scales[index]) for point in fit.points)
        slope = scale_fit(fit, index)
        assert slope.optimizer == str(scale)
        assert slope.estimate.value == pytest.approx(np.log2(large / small))
