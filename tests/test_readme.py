"""The numbers of README.md and docs/ come from `bench/results/`."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memsolve.report.formatting import format_count
from memsolve.report.names import shorten_names
from memsolve.report.table import details, rows
from memsolve.study import load
from memsolve.study.one_step.points import CapacityPoint
from memsolve.study.one_step.precision import precision_point

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
README = (ROOT / "README.md").read_text()


def docs(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def exponent(fit: Any) -> str:
    return f"{fit.estimate.value:.2f} [{fit.estimate.low:.2f}, {fit.estimate.high:.2f}]"


@pytest.mark.parametrize("study", ["capacity", "saturation"])
def test_the_table_of_one_step_is_the_recorded_one(study: str) -> None:
    recorded, summary = load(RESULTS / "alpha-1.5" / study)
    columns = details(recorded, summary).values()
    page = docs("one-step.md")
    for row, *values in zip(rows(recorded, summary), *columns, strict=True):
        optimizer, _, *exponents = row
        numbers = [value.split(" ")[0] for value in values]
        line = [study, optimizer, *exponents, *numbers]
        assert "| " + " | ".join(line) + " |" in page


def test_the_table_of_training_is_the_recorded_one() -> None:
    page = docs("training.md")
    for fit in load(RESULTS / "dynamics")[1].fits:
        assert [point.dim for point in fit.points] == [24, 34, 48]
        counts = [format_count(float(np.mean(point.recovered[-1]))) for point in fit.points]
        line = [f"`{fit.optimizer}`", *counts, exponent(fit), str(fit.law)]
        assert "| " + " | ".join(line) + " |" in page


def test_the_readmes_table_is_the_recorded_one() -> None:
    one = {fit.optimizer: fit for fit in load(RESULTS / "alpha-1.5" / "capacity")[1].fits}
    many = {fit.optimizer: fit for fit in load(RESULTS / "dynamics")[1].fits}
    for optimizer in one | many:
        cells = [f"`{optimizer}`", *[""] * 5]
        if fit := one.get(optimizer):
            cells[1:4] = format_count(fit.points[-1].mean), exponent(fit), str(fit.law)
        if fit := many.get(optimizer):
            cells[4:] = format_count(float(np.mean(fit.points[-1].recovered[-1]))), exponent(fit)
        assert re.sub(" +", " ", "| " + " | ".join(cells) + " |") in README


def test_the_shares_are_the_recorded_ones() -> None:
    fits = load(RESULTS / "precision")[1].fits
    lines = re.findall(r"^\| `(muon\S*)` \| ([\d%| ]+) \|$", docs("precision.md"), re.MULTILINE)
    assert len(lines) > 3
    for name, written in lines:
        shares = [
            np.array([point.share for point in fit.points if point.dim == 512])
            for fit in fits
            if fit.optimizer == name
        ]
        assert written == " | ".join(f"{float(share[0]):.0%}" for share in shares)


def test_the_examples_table_is_the_recorded_one() -> None:
    study, summary = load(RESULTS / "factual-recall")
    columns = {
        fit.optimizer: [cell.text for cell in study.columns(fit).values()] for fit in summary.fits
    }
    page = docs("factual-recall.md")
    lines = re.findall(r"^\| `(\S*)` \| (\d+%.*\].*) \|$", page, re.MULTILINE)
    assert len(lines) > 5
    assert all(written == " | ".join(columns[name]) for name, written in lines)


def test_the_exponents_of_spectral_powers_are_the_recorded_ones() -> None:
    study, summary = load(RESULTS / "spectral-powers")
    fits = [fit for fit in summary.fits if fit.points[0].power is not None]
    page = docs("studies/spectral-powers.md")
    for power in {fit.points[0].power for fit in fits}:
        rows = [fit for fit in fits if fit.points[0].power == power]
        assert [fit.alpha for fit in rows] == [1.2, 1.5, 2.0]
        slopes = [study.columns(fit)["theory at these d"].text for fit in rows]
        cells = [text for pair in zip(map(exponent, rows), slopes, strict=True) for text in pair]
        assert f"| {power:g} | {' | '.join(cells)} |" in page


def test_the_shares_of_spectral_powers_are_the_recorded_ones() -> None:
    _, summary = load(RESULTS / "spectral-powers")
    names = shorten_names({fit.optimizer for fit in summary.fits})
    shares: dict[str, list[str]] = {}
    for fit in summary.fits:
        point, exact = (
            CapacityPoint(256, each.num_items, each.recovered, each.top_rank)
            for each in (fit.points[-1], polar_of(summary, fit.alpha).points[-1])
        )
        power, share = fit.points[0].power, precision_point(point, exact)
        name = f"`{names[fit.optimizer]}`" if power is None else f"p = {power:g}"
        if share.share_low is not None:
            text = f"{share.share:.2f} [{share.share_low:.2f}, {share.share_high:.2f}]"
            shares.setdefault(name, []).append(text)
    assert len(shares) == 10
    page = docs("studies/spectral-powers.md")
    assert all(f"| {name} | {' | '.join(texts)} |" in page for name, texts in shares.items())


def polar_of(summary: Any, alpha: float) -> Any:
    """The fit of p = 0 at an alpha."""
    return next(fit for fit in summary.fits if fit.alpha == alpha and fit.points[0].power == 0)


def test_the_table_of_anisotropy_is_the_recorded_one() -> None:
    page = docs("studies/anisotropy.md")
    for fit in load(RESULTS / "anisotropy")[1].fits:
        point = fit.points[-1]
        counts = [format_count(count.value) for count in point.counts]
        line = [f"`{fit.optimizer}`", *counts, str(point.share)]
        assert "| " + " | ".join(line) + " |" in page
