"""The study of spectral powers: its ends, its law, its figure, and that it resumes."""

from pathlib import Path

import numpy as np
import pytest

from memsolve import InputError
from memsolve.engine.run import run
from memsolve.report.alt_text import describe
from memsolve.report.curves import labeled_curves
from memsolve.study import Grid, capacity, dynamics, load, spectral_powers
from memsolve.study.training.grid import TrainingGrid

POWER = "memsolve.optim.SpectralPower:power="
RANDOM = "memsolve.optim.RandomSpectrum"
SMALL = Grid((f"{POWER}0", f"{POWER}1", RANDOM, "newton"), dims=(8, 16), seeds=2)


def test_the_ends_are_muon_and_sgd_and_have_their_laws() -> None:
    fits = run(spectral_powers, SMALL).fits
    polar, gradient, random, newton = fits
    exact = run(capacity, Grid(("muon:backend=reference", "sgd"), dims=(8, 16), seeds=2)).fits
    for fit, other in zip((polar, gradient), exact, strict=True):
        assert [point.recovered for point in fit.points] == [
            point.recovered for point in other.points
        ]
        assert fit.law == other.law
    assert [fit.points[0].power for fit in fits] == [0, 1, None, None]
    assert str(random.law) == "1.33 derived"
    assert str(newton.law) == "1.33 published"
    rows = [row.cells for row in spectral_powers.rows(fits)]
    assert [row["p"].text for row in rows] == ["0", "1", "-", "-"]
    assert rows[0]["theory at these d"].key is not None
    assert rows[2]["theory at these d"].text == "-"


def test_the_exponent_falls_with_the_power_as_theory_at_these_d_does() -> None:
    powers = (0.0, 0.5, 1.0)
    grid = Grid([f"{POWER}{power}" for power in powers], alphas=(1.2,), dims=(32, 64, 128), seeds=3)
    fits = run(spectral_powers, grid).fits
    counts = np.array([fit.points[-1].mean for fit in fits])
    assert (counts[:-1] > 1.5 * counts[1:]).all()
    for fit, row in zip(fits, spectral_powers.rows(fits), strict=True):
        expected = row.cells["theory at these d"].key
        assert isinstance(expected, float)
        assert fit.estimate.value == pytest.approx(expected, abs=0.3)


def test_random_singular_values_keep_the_capacity_of_muon_up_to_a_factor() -> None:
    """By signal over interference, E r / sqrt(E r^2) = sqrt(3) / 2, to the power 1 / alpha."""
    grid = Grid((f"{POWER}0", RANDOM), alphas=(2.0,), dims=(256,), num_items=4096, seeds=2)
    polar, random = (fit.points[0].mean for fit in run(spectral_powers, grid).fits)
    assert random / polar == pytest.approx((3**0.5 / 2) ** (1 / 2), abs=0.08)


def test_it_resumes_to_the_same_summary(tmp_path: Path) -> None:
    complete, interrupted = tmp_path / "complete", tmp_path / "interrupted"
    for folder in (complete, interrupted):
        run(spectral_powers, SMALL, folder)
    cells = interrupted / "cells.jsonl"
    lines = cells.read_bytes().splitlines(keepends=True)
    cells.write_bytes(b"".join(lines[:-5]))
    (interrupted / "summary.json").unlink()
    run(spectral_powers, SMALL, interrupted, resume=True)
    first, second = (folder / "summary.json" for folder in (complete, interrupted))
    assert first.read_bytes() == second.read_bytes()
    assert load(complete)[0] is spectral_powers


def test_the_figure_has_powers_and_names_of_others() -> None:
    summary = run(spectral_powers, SMALL)
    figure = spectral_powers.figures(summary)["exponent-against-power"]
    text = describe(figure)
    for name in ("U S^p V^T", "RandomSpectrum", "newton"):
        assert f"{name}, from" in text
    assert "theory in the limit of large d" in text


def test_every_power_is_drawn_also_with_other_settings() -> None:
    names = [f"{POWER}1", f"{POWER}1:momentum=0.9", f"{POWER}-0.7", "sgd"]
    summary = run(spectral_powers, Grid(names, dims=(8, 16), seeds=2))
    assert [str(fit.law) for fit in summary.fits] == ["0.33 derived"] * 2 + ["None", "0.33 derived"]
    (axes,) = spectral_powers.figures(summary)["exponent-against-power"].axes
    curves = {curve.name: curve for curve in labeled_curves(axes)}
    assert curves.keys() == {"U S^p V^T", "sgd"}
    assert set(curves["U S^p V^T"].x) == {-0.7, 1.0}
    assert curves["U S^p V^T"].y[-1] == curves["sgd"].y[0]


def test_one_dimension_has_no_exponent_and_says_so() -> None:
    summary = run(spectral_powers, Grid((f"{POWER}0.5", RANDOM), dims=(8,), seeds=2))
    assert all(fit.estimate.note == "one dimension, no slope" for fit in summary.fits)
    text = describe(spectral_powers.figures(summary)["exponent-against-power"])
    assert "not identified: " in text


def test_an_unusable_power_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="power is 'half'; expected a finite number") as caught:
        run(spectral_powers, Grid((f"{POWER}half",), dims=(8,), seeds=1), tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match="takes the population"):
        run(spectral_powers, Grid((f"{POWER}1",), dims=(8,), seeds=1, batch_sizes=(4,)))


def test_the_default_grid_has_both_ends_and_random_values() -> None:
    labels = spectral_powers.grid.labels
    powers = [float(label.partition("power=")[2]) for label in labels if POWER in label]
    assert min(powers) == -0.25
    assert {0.0, 1.0} <= set(powers)
    assert RANDOM in labels


def test_a_spectral_power_can_be_trained() -> None:
    names = (f"{POWER}0.25", RANDOM, "memsolve.optim.Kaon")
    grid = TrainingGrid(names, dims=(8, 16), seeds=1, steps=2)
    fits = run(dynamics, grid).fits
    assert [fit.optimizer for fit in fits] == list(names)
    assert all(max(map(max, point.recovered)) > 0 for fit in fits for point in fit.points)
