"""Anisotropic embeddings: the memory, whitened Muon, the option of every study, the study."""

import csv
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memsolve import AssociativeMemory, InputError, theory
from memsolve.cli import commands
from memsolve.embeddings import eigenvalues, random_rotation
from memsolve.engine import Grid
from memsolve.engine.extend import grid_like
from memsolve.engine.options import options
from memsolve.engine.results.load import load_summary
from memsolve.engine.results.merge import differences, merge
from memsolve.engine.run import run
from memsolve.engine.storage.lines import from_line, to_line
from memsolve.examples.factual_recall import study as factual_recall
from memsolve.normals import SequentialSource
from memsolve.objective import Objective
from memsolve.optim import WhitenedMuon
from memsolve.optimizers.registry import resolve
from memsolve.report import write_report
from memsolve.study import (
    AnisotropyGrid,
    LeaderboardGrid,
    RaceGrid,
    RatesGrid,
    TrainingGrid,
    anisotropy,
    capacity,
    critical_batch,
    damping,
    dynamics,
    leaderboard,
    noise_scale,
    precision,
    rates,
    saturation,
    spectral_powers,
)
from memsolve.training import step_from_zero

WHITENED = "memsolve.optim.WhitenedMuon"
SMALL = AnisotropyGrid(("sgd", "muon", "newton", WHITENED), dims=(8, 16), seeds=2, kappas=(0, 1.2))
BASE: dict[str, Any] = {"dims": (8,), "seeds": 2, "device": "cpu"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotation(dim: int) -> Tensor:
    return random_rotation(dim, SequentialSource(generator()), torch.float64)


def with_inputs(memory: AssociativeMemory, inputs: Tensor) -> AssociativeMemory:
    """A memory of the same facts with other input embeddings."""
    other = AssociativeMemory(memory.num_items, memory.dim, memory.alpha, seed=0)
    other.inputs, other.outputs = inputs, memory.outputs
    return other


def step(memory: AssociativeMemory, name: str) -> Tensor:
    (build,) = resolve([name]).values()
    return step_from_zero(Objective(memory, memory.population()), build)


def logits(memory: AssociativeMemory, name: str) -> Tensor:
    """Of every item after one step, divided by the largest."""
    values = memory.inputs @ step(memory, name).T @ memory.outputs.T
    return values / values.abs().max()


def test_without_anisotropy_the_embeddings_are_those_of_earlier_versions() -> None:
    memory = AssociativeMemory(40, 6, 1.5, seed=3)
    random = generator(3)
    for embeddings in (memory.inputs, memory.outputs):
        normal = torch.randn(40, 6, generator=random, dtype=torch.float64)
        assert torch.equal(embeddings, normal * 6**-0.5)


@pytest.mark.parametrize("kappa", [0.0, 0.6, 1.2])
def test_eigenvalues_are_a_power_law_of_trace_one(kappa: float) -> None:
    spectrum = eigenvalues(32, kappa)
    assert spectrum.sum() == pytest.approx(1)
    assert spectrum[0] / spectrum[-1] == pytest.approx(32**kappa)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_the_covariance_of_many_embeddings_has_these_eigenvalues(side: str) -> None:
    kappas = {"inputs": (1.1, 0.0), "outputs": (0.0, 1.1)}[side]
    memory = AssociativeMemory(
        20_000, 16, 1.5, seed=0, anisotropy=kappas[0], output_anisotropy=kappas[1]
    )
    embeddings: Tensor = getattr(memory, side)
    spectrum = torch.linalg.eigvalsh(embeddings.T @ embeddings / len(embeddings)).flip(0)
    torch.testing.assert_close(spectrum, eigenvalues(16, 1.1), rtol=0.1, atol=0)
    assert embeddings.square().sum(1).mean() == pytest.approx(1, rel=0.03)
    isotropic = AssociativeMemory(20_000, 16, 1.5, seed=0)
    other = {"inputs": "outputs", "outputs": "inputs"}[side]
    assert torch.equal(getattr(memory, other), getattr(isotropic, other))


def test_anisotropic_embeddings_are_a_linear_map_of_isotropic_ones() -> None:
    isotropic = AssociativeMemory(50, 6, 1.5, seed=1).inputs
    embeddings = AssociativeMemory(50, 6, 1.5, seed=1, anisotropy=0.9).inputs
    matrix = torch.linalg.lstsq(isotropic, embeddings).solution
    torch.testing.assert_close(isotropic @ matrix, embeddings)


def test_rotations_are_orthogonal_and_favour_no_direction() -> None:
    random = SequentialSource(generator())
    rotations = torch.stack([random_rotation(3, random, torch.float64) for _ in range(2000)])
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, identity)
    assert rotations.mean(0).abs().max() < 0.06
    thirds = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(rotations.square().mean(0), thirds, rtol=0, atol=0.03)


@pytest.mark.parametrize("kappa", [-0.1, math.nan, math.inf, "1", True])
@pytest.mark.parametrize("name", ["anisotropy", "output_anisotropy"])
def test_an_exponent_of_eigenvalues_is_finite_and_not_negative(name: str, kappa: Any) -> None:
    message = f"^{name} is .*; expected a finite number of at least 0$"
    with pytest.raises(InputError, match=message):
        AssociativeMemory(10, 4, 1.5, seed=0, **{name: kappa})
    with pytest.raises(InputError, match=message):
        Grid(**{name: kappa})


def test_eigenvalues_that_underflow_are_refused() -> None:
    with pytest.raises(InputError, match="eigenvalue 4 of the covariance underflows"):
        AssociativeMemory(10, 4, 1.5, seed=0, anisotropy=100)


@pytest.mark.parametrize("name", ["sgd", "muon:backend=reference", "newton", WHITENED])
def test_steps_are_equivariant_under_rotations_of_the_inputs(name: str) -> None:
    memory = AssociativeMemory(400, 8, 1.5, seed=0, anisotropy=0.9)
    rotated = with_inputs(memory, memory.inputs @ rotation(8))
    torch.testing.assert_close(logits(rotated, name), logits(memory, name), rtol=0, atol=1e-6)


def test_sign_descent_depends_on_the_basis() -> None:
    memory = AssociativeMemory(400, 8, 1.5, seed=0, anisotropy=0.9)
    rotated = with_inputs(memory, memory.inputs @ rotation(8))
    name = "torch.optim.Adam"
    assert not torch.allclose(logits(rotated, name), logits(memory, name), rtol=0, atol=0.01)


@pytest.mark.parametrize("name", [WHITENED, f"{WHITENED}:weighted=True", "newton"])
def test_no_linear_map_of_the_inputs_changes_newton_and_whitened_muon(name: str) -> None:
    memory = AssociativeMemory(400, 8, 1.5, seed=0)
    matrix = torch.diag(torch.logspace(0, 1, 8, dtype=torch.float64))
    matrix = rotation(8) @ matrix
    mapped = with_inputs(memory, memory.inputs @ matrix)
    of_both = (logits(each, f"{name}:damping=0") for each in (mapped, memory))
    torch.testing.assert_close(*of_both, rtol=0, atol=1e-6)
    assert not torch.allclose(logits(mapped, "muon"), logits(memory, "muon"), rtol=0, atol=0.01)


def test_whitened_muon_is_muon_where_the_second_moment_is_the_identity() -> None:
    memory = AssociativeMemory(400, 8, 1.5, seed=0)
    values, vectors = torch.linalg.eigh(memory.input_moment)
    white = with_inputs(memory, memory.inputs @ (vectors * values.rsqrt() @ vectors.T))
    torch.testing.assert_close(step(white, f"{WHITENED}:damping=0"), step(white, "muon"))


def test_whitened_muon_refuses_what_it_cannot_use() -> None:
    memory = AssociativeMemory(400, 8, 1.5, seed=0)
    objective = Objective(memory, memory.sample(2, generator()))
    weight = torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.float64))
    for settings, message in (
        ({"lr": 0.0}, "lr is 0.0"),
        ({"damping": -1.0}, "damping is -1.0"),
        ({"weighted": 1}, "weighted is 1"),
    ):
        with pytest.raises(InputError, match=message):
            WhitenedMuon([weight], objective, **settings)
    weight.grad = torch.ones_like(weight)
    singular = WhitenedMuon([weight], objective, weighted=True, damping=0)
    with pytest.raises(InputError, match="singular; expected a larger damping"):
        singular.step()
    weight.grad[0, 0] = math.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        WhitenedMuon([weight], objective).step()
    assert not weight.any()


def test_whitened_muon_trains() -> None:
    grid = TrainingGrid([WHITENED], steps=4, schedules=("constant",), **BASE)
    (fit,) = run(dynamics, grid).fits
    losses = np.array(fit.points[0].loss).mean(1)
    assert losses[-1] < losses[0]


def test_the_law_of_sgd_has_the_effective_dimension() -> None:
    assert theory.effective_dim(64, 0) == pytest.approx(64)
    dims = [theory.effective_dim(64, kappa) for kappa in (0, 0.3, 0.6, 0.9, 1.2)]
    assert all(larger > smaller for larger, smaller in pairwise(dims))
    memory = AssociativeMemory(4000, 64, 1.5, seed=0, anisotropy=0.9)
    products = memory.inputs[:2000] @ memory.inputs[2000:].T
    assert products.square().mean() == pytest.approx(1 / theory.effective_dim(64, 0.9), rel=0.05)
    assert theory.share_at_anisotropy("newton", 1.5, 64, 0.9) == 1
    assert theory.share_at_anisotropy("muon", 1.5, 64, 0.9) is None
    assert theory.share_at_anisotropy("sgd", 1.5, 64, 0.0) == pytest.approx(1)


GRIDS: dict[str, tuple[Any, Grid]] = {
    "capacity": (capacity, Grid(["sgd"], **BASE)),
    "saturation": (saturation, Grid(["sgd"], batch_sizes=(2, 8, 32), **BASE)),
    "precision": (precision, Grid(["muon"], **BASE)),
    "damping": (damping, Grid(["muon"], batch_sizes=(8, 32), **BASE)),
    "spectral-powers": (
        spectral_powers,
        Grid(["memsolve.optim.SpectralPower:power=0.5"], **BASE),
    ),
    "noise-scale": (noise_scale, Grid(["sgd"], batch_sizes=(2, 8, 32), **BASE)),
    "dynamics": (dynamics, TrainingGrid(["sgd"], steps=2, schedules=("constant",), **BASE)),
    "rates": (rates, RatesGrid(["sgd"], steps=2, gradients=("exact",), **BASE)),
    "leaderboard": (
        leaderboard,
        LeaderboardGrid(["sgd"], candidates=6, tracks=("one-step",), **BASE),
    ),
    "critical-batch": (
        critical_batch,
        RaceGrid(["sgd"], steps=3, target="recovered=2", batch_sizes=(8,), **BASE),
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_study_measures_anisotropic_embeddings(name: str) -> None:
    study, grid = GRIDS[name]
    stretched = replace(grid, anisotropy=1.2, output_anisotropy=1.2)
    before, after = run(study, grid), run(study, stretched)
    assert after.fits[0].points != before.fits[0].points
    if name == "dynamics":  # no weight stores more, whatever the embeddings
        assert str(after.fits[0].law) == "2.00 derived limit"
    else:
        assert after.fits[0].law is None
    assert "--anisotropy 1.2 --output-anisotropy 1.2" in after.command


def test_the_example_refuses_anisotropic_embeddings() -> None:
    with pytest.raises(InputError, match="expected 0, since a model learns its embeddings"):
        run(factual_recall, replace(factual_recall.grid, anisotropy=0.5))


def strip(folder: Path) -> None:
    """Make results look like those of an earlier version, which had no anisotropy."""
    head, *lines = (folder / "cells.jsonl").read_bytes().splitlines(keepends=True)
    line = from_line(head)
    assert line is not None
    fields = {name: value for name, value in line.fields.items() if name != "crc"}
    for name in ("anisotropy", "output_anisotropy"):
        assert fields["settings"].pop(name, 0) == 0
    (folder / "cells.jsonl").write_bytes(b"".join([to_line(fields).encode(), *lines]))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["grid"].pop("anisotropy") == summary["grid"].pop("output_anisotropy") == 0
    (folder / "summary.json").write_text(json.dumps(summary))


def cells(folder: Path) -> int:
    return len((folder / "cells.jsonl").read_text().splitlines())


def test_results_of_earlier_versions_are_isotropic(tmp_path: Path) -> None:
    grid = Grid(["sgd"], **BASE)
    before = run(capacity, grid, tmp_path / "a")
    strip(tmp_path / "a")
    measured = cells(tmp_path / "a")
    message = r"other settings: anisotropy is 0\.0 there and 0\.6 now"
    with pytest.raises(InputError, match=message):
        run(capacity, replace(grid, anisotropy=0.6), tmp_path / "a", resume=True)
    assert run(capacity, grid, tmp_path / "a", resume=True).fits == before.fits
    assert cells(tmp_path / "a") == measured

    strip(tmp_path / "a")
    run(capacity, replace(grid, optimizers=["muon"]), tmp_path / "b")
    stretched = run(capacity, replace(grid, anisotropy=0.6), tmp_path / "c")
    summaries = {name: load_summary(capacity, tmp_path / name) for name in "abc"}
    ((_, alike),) = merge([(tmp_path / name, capacity, summaries[name]) for name in "ab"])
    assert alike.differences == ""
    ((_, unlike),) = merge([(tmp_path / name, capacity, summaries[name]) for name in "ac"])
    assert unlike.differences == "settings differ (a / c): anisotropy 0.0 / 0.6"
    grids = [(tmp_path / name, summaries[name].grid) for name in "ac"]
    assert differences(capacity, grids) == unlike.differences
    with pytest.raises(InputError, match=r"anisotropy is 0\.6 there and 0\.0 now"):
        run(capacity, grid, tmp_path / "c", resume=True)
    assert Grid.from_json(stretched.grid).anisotropy == 0.6
    assert Grid.from_json(summaries["a"].grid).is_isotropic


def test_the_recorded_leaderboard_can_be_extended() -> None:
    assert leaderboard.record is not None
    texts = {
        name: option.format(getattr(leaderboard.grid, name))
        for name, option in options(leaderboard.grid)
    }
    extended = grid_like(leaderboard, leaderboard.record, ["sgd"], texts)
    assert extended.is_isotropic
    assert extended.labels == ["sgd"]
    with pytest.raises(InputError, match="--anisotropy is given with --add"):
        grid_like(leaderboard, leaderboard.record, ["sgd"], texts | {"anisotropy": "0.6"})


def test_counts_at_zero_are_those_of_capacity(tmp_path: Path) -> None:
    summary = run(anisotropy, SMALL, tmp_path)
    isotropic = run(capacity, Grid(SMALL.optimizers, dims=SMALL.dims, seeds=SMALL.seeds))
    stretched = run(
        capacity, Grid(SMALL.optimizers, dims=SMALL.dims, seeds=SMALL.seeds, anisotropy=1.2)
    )
    for fit, at_zero, at_last in zip(summary.fits, isotropic.fits, stretched.fits, strict=True):
        assert (fit.estimate, fit.law) == (at_zero.estimate, at_zero.law)
        for point, zero, last in zip(fit.points, at_zero.points, at_last.points, strict=True):
            assert point.kappas == [0, 1.2]
            assert point.recovered == [zero.recovered, last.recovered]
            assert point.top_rank == [zero.top_rank, last.top_rank]
    with (tmp_path / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["kappa"] for row in rows} == {"0.0", "1.2"}
    assert load_summary(anisotropy, tmp_path).fits == summary.fits


def test_muon_loses_items_and_newton_and_whitened_muon_do_not() -> None:
    grid = replace(SMALL, optimizers=["muon", "newton", WHITENED], dims=(32,), seeds=3)
    muon, newton, whitened = (fit.points[0] for fit in run(anisotropy, grid).fits)
    assert muon.share.high is not None
    assert muon.share.high < 0.9
    for point in (newton, whitened):
        assert point.share.value == pytest.approx(1, abs=0.03)


def test_zero_is_added_and_a_resumed_study_measures_only_further_kappas(tmp_path: Path) -> None:
    grid = replace(SMALL, optimizers=["sgd"], kappas=[0.9])
    assert anisotropy.complete(grid).kappas == [0.0, 0.9]
    run(anisotropy, grid, tmp_path)
    measured = cells(tmp_path)
    more = run(anisotropy, replace(grid, kappas=[1.2, 0.9]), tmp_path, resume=True)
    assert more.fits[0].points[0].kappas == [0.0, 0.9, 1.2]
    assert cells(tmp_path) == measured + len(SMALL.dims) * SMALL.seeds
    assert more.fits == run(anisotropy, replace(grid, kappas=[1.2, 0.9])).fits
    other = replace(grid, output_anisotropy=0.5)
    with pytest.raises(InputError, match=r"output_anisotropy is 0\.0 there and 0\.5 now"):
        run(anisotropy, other, tmp_path, resume=True)
    assert all(fit.law is None for fit in run(anisotropy, other).fits)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anisotropy": 0.6}, r"give --kappas 0,0\.6 \(kappas\)"),
        ({"kappas": ()}, "kappas is"),
        ({"kappas": (0, -1)}, "kappas holds -1; expected finite numbers of at least 0"),
        ({"kappas": (0, math.inf)}, "kappas holds inf"),
        ({"kappas": (0.5, 0.5)}, "expected each value once"),
        ({"batch_sizes": (4,)}, "this study takes the population"),
    ],
)
def test_grids_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(anisotropy, AnisotropyGrid(**BASE, **fields))


def test_the_report_has_the_figure_and_says_what_recovers_nothing(tmp_path: Path) -> None:
    summary = run(anisotropy, replace(SMALL, dims=(8,)))
    (fit, *others) = summary.fits
    nothing = replace(fit.points[0], recovered=[[0, 0], [0, 0]])
    summary = replace(summary, fits=[replace(fit, points=[nothing]), *others])
    write_report([(anisotropy, summary)], tmp_path)
    assert (tmp_path / "anisotropy.png").is_file()
    page = (tmp_path / "report.html").read_text()
    assert "nothing above 0 to draw: sgd (alpha = 1.5, d = 8)" in page
    assert "theory at kappa = 0" in page


def test_the_command_line_has_the_options() -> None:
    from typer.main import get_command

    for name, command in get_command(commands([])).commands.items():  # type: ignore[attr-defined]
        flags = {flag for option in command.params for flag in option.opts}
        assert (name in ("report", "spectrum")) != (
            {"--anisotropy", "--output-anisotropy"} <= flags
        )
