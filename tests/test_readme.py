"""The README's numbers come from `bench/results/`, and its Python runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from memsolve.report.table import details, rows
from memsolve.study import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "bench" / "results"


@pytest.mark.parametrize("study", ["capacity", "saturation"])
def test_the_studys_table_is_the_recorded_one(study: str) -> None:
    found, summary = load(RESULTS / "alpha-1.5" / study)
    columns = details(found, summary).values()
    for row, *values in zip(rows(found, summary), *columns, strict=True):
        optimizer, _, *exponents = row
        numbers = [value.split(" ")[0] for value in values]
        line = [study, optimizer, *exponents, *numbers]
        assert "| " + " | ".join(line) + " |" in README


def test_the_shares_are_the_recorded_ones() -> None:
    fits = load(RESULTS / "precision")[1].fits
    lines = re.findall(r"^\| `(muon\S*)` \| ([\d%| ]+) \|$", README, re.MULTILINE)
    assert len(lines) > 3
    for name, written in lines:
        shares = [
            np.array([point.share for point in fit.points if point.dim == 512])
            for fit in fits
            if fit.optimizer == name
        ]
        assert written == " | ".join(f"{float(share[0]):.0%}" for share in shares)


def test_the_examples_table_is_the_recorded_one() -> None:
    found, summary = load(RESULTS / "factual-recall")
    columns = {
        fit.optimizer: [cell.text for cell in found.columns(fit).values()] for fit in summary.fits
    }
    lines = re.findall(r"^\| `(\S*)` \| (\d+%.*\].*) \|$", README, re.MULTILINE)
    assert len(lines) > 5
    assert all(written == " | ".join(columns[name]) for name, written in lines)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_examples_run(block: str) -> None:
    exec(block, {"__name__": "readme"})


def test_the_figures_are_there() -> None:
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert figures
    assert all((ROOT / figure).is_file() for figure in figures)
