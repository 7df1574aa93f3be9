"""The optimizers of six packages: those that run, and why the others do not.

`data/optimizers.csv` records one run of `memsolve capacity --skip-failing` with all of them, with
pytorch_optimizer 4.1.0, heavyball 3.2.1, timm 1.0.31, schedulefree 1.4.1, lion-pytorch 0.2.5 and
`TORCHDYNAMO_DISABLE=1`, without which heavyball compiles for minutes: in two minutes on two cores.
"""

import csv
from pathlib import Path

import pytest
import torch

from memsolve import InputError
from memsolve.optimizers.probe import probe

OUTCOMES = Path(__file__).parent / "data" / "optimizers.csv"


def outcomes() -> list[dict[str, str]]:
    return list(csv.DictReader(OUTCOMES.read_text().splitlines()))


def test_most_optimizers_of_six_packages_run() -> None:
    rows = outcomes()
    assert len(rows) >= 150
    assert all(row["outcome"] in ("runs", "refused") for row in rows)
    assert all(row["words"] for row in rows if row["outcome"] == "refused")
    assert sum(row["outcome"] == "runs" for row in rows) > 0.8 * len(rows)


@pytest.mark.parametrize(
    "package", ["torch", "pytorch_optimizer", "timm", "schedulefree", "lion_pytorch"]
)
def test_the_recorded_outcomes_hold(package: str) -> None:
    """Not of heavyball, which compiles every step, for minutes."""
    pytest.importorskip(package)
    for row in outcomes():
        name = row["optimizer"]
        if name.startswith(f"{package}."):
            try:
                probe(name, name, "cpu", torch.float64)
                outcome = "runs"
            except InputError:
                outcome = "refused"
            assert outcome == row["outcome"], name
