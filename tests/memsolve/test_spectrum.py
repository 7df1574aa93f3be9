"""Singular values in a checkpoint, and the schedule that resolves them."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memsolve_kernels.matrix_sign import STOCK, matrix_sign, minimax
from scipy.integrate import quad
from torch import Tensor

from memsolve.spectrum.choose import UnresolvedError, choose, stratify
from memsolve.spectrum.figure import GAUSSIAN, fit_power
from memsolve.spectrum.matrices import read_matrices
from memsolve.spectrum.schedules import Target, flops, resolved_share, schedule_options
from memsolve.spectrum.singular_values import Spectrum, pool_values, rounding_floor, spectra_of
from tests.memsolve.checkpoints import matrix, save_safetensors
from tests.memsolve.spectrum_cases import model_spectra, save_model, spectra

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
POWERS = torch.arange(1, 33, dtype=torch.float64) ** -1.0
CODE = {"minimax": minimax, "STOCK": STOCK, "replace": replace}


def spectrum_of(tensor: Tensor, folder: Path) -> Spectrum:
    (spectrum,) = spectra(save_safetensors(folder / "one.safetensors", {"weight": tensor}))
    return spectrum


def evaluate(code: str) -> Any:
    """The schedule that the code of one makes."""
    value = eval(code, dict(CODE))
    return STOCK[value] if isinstance(value, str) else value


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (96, 32)], ids=str)
def test_values_are_those_of_the_matrix(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    tensor = matrix(POWERS, *shape, dtype)
    spectrum = spectrum_of(tensor, tmp_path)
    exact = torch.linalg.svdvals(tensor.double()).flip(0)
    exact = (exact / exact.norm()).numpy()
    np.testing.assert_allclose(spectrum.values, exact[exact > spectrum.floor], rtol=1e-9)
    half = 2 * torch.finfo(dtype).eps
    known = (POWERS / POWERS.norm()).flip(0)
    for level, index in ((1 / 32, 0), (0.5, 15), (1, 31)):
        assert spectrum.quantile(level) == pytest.approx(float(known[index]), abs=half)


def test_more_dimensions_are_flattened_as_muon_does(tmp_path: Path) -> None:
    kernel = matrix(POWERS[:8], 8, 27, torch.float32)
    ours = spectrum_of(kernel.reshape(8, 3, 3, 3), tmp_path)
    assert (ours.matrix.rows, ours.matrix.columns) == (8, 27)
    np.testing.assert_array_equal(ours.values, spectrum_of(kernel, tmp_path).values)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_rounding_adds_to_a_low_rank_does_not_count(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    spectrum = spectrum_of(matrix([3.0, 2.0, 1.0], 64, 96, dtype), tmp_path)
    assert (len(spectrum.values), spectrum.noise) == (3, 61)


def test_the_floor_is_that_of_rounding(tmp_path: Path) -> None:
    """Rounding to bfloat16 makes singular values up to the floor, and not far below it."""
    exact = matrix([1.0] * 8, 128, 256, torch.float32)
    spectrum = spectrum_of(exact.bfloat16(), tmp_path)
    error = (exact.bfloat16().double() - exact.double()) / exact.norm()
    largest = float(torch.linalg.matrix_norm(error, 2))
    assert 0.4 * spectrum.floor < largest < spectrum.floor
    assert rounding_floor(spectrum.matrix) == spectrum.floor


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_values_do_not_depend_on_the_scale(tmp_path: Path, factor: float) -> None:
    tensor = matrix(POWERS, 32, 40, torch.float32)
    expected = spectrum_of(tensor, tmp_path).values
    np.testing.assert_allclose(spectrum_of(factor * tensor, tmp_path).values, expected, rtol=1e-5)


def test_one_matrix_is_in_memory_at_a_time(tmp_path: Path) -> None:
    tensors = {str(seed): matrix(POWERS, 32, 40, torch.float32, seed) for seed in range(4)}
    contents = read_matrices([save_safetensors(tmp_path / "m.safetensors", tensors)])
    loaded: list[Any] = []

    def watched(load: Any) -> Any:
        def run() -> Tensor:
            assert all(reference() is None for reference in loaded)
            tensor: Tensor = load()
            loaded.append(weakref.ref(tensor))
            return tensor

        return run

    matrices = [
        each._replace(tensor=each.tensor._replace(load=watched(each.tensor.load)))
        for each in contents.matrices
    ]
    assert len(list(spectra_of(matrices, "cpu"))) == len(loaded) == 4


def test_the_gaussian_quantile_is_that_of_the_law_and_of_matrices() -> None:
    share, _ = quad(lambda x: np.sqrt(4 - x * x) / np.pi, 0, GAUSSIAN)
    assert share == pytest.approx(0.1, abs=1e-4)
    values = torch.linalg.svdvals(torch.randn(256, 256, dtype=torch.float64)) / 256
    assert float(values.quantile(0.1)) * 16 == pytest.approx(GAUSSIAN, rel=0.1)


def test_a_power_is_fitted_with_its_interval() -> None:
    sizes = np.array([16.0, 16.0, 64.0, 64.0, 256.0])
    noise = np.array([1.1, 0.9, 1.0, 1.05, 0.95])
    assert fit_power(sizes, sizes**-0.5).startswith("-0.50")  # type: ignore[union-attr]
    assert "[" in str(fit_power(sizes, noise * sizes**-0.5))
    assert fit_power(sizes[:2], noise[:2]) is None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    "target", [Target(0.99, 0.3, torch.bfloat16), Target(0.9, 0.01, torch.float32)]
)
def test_schedules_meet_the_target_and_are_what_their_code_says(
    model: Path, target: Target
) -> None:
    values = pool_values(model_spectra(model))
    sizes = [spectrum.matrix.size for spectrum in model_spectra(model)]
    options = schedule_options(values, sizes, target)
    assert [each.cost for each in options] == sorted(each.cost for each in options)
    for each in options:
        image = each.schedule(values)
        assert (np.abs(image - 1) <= target.tolerance).mean() >= target.share
        assert evaluate(each.code) == replace(each.schedule, name=evaluate(each.code).name)
        assert each.cost == flops(each.schedule, sizes)
    fewest = min(len(each.schedule) for each in options if not each.schedule.wide_steps)
    shorter = minimax(float(np.quantile(values, 1 - target.share)), target.tolerance).take(
        fewest - 1
    )
    assert resolved_share(shorter, values, target.tolerance) < target.share


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_chosen_schedule_gives_the_float64_sign(model: Path, dtype: torch.dtype) -> None:
    """As `Muon` would call it: the rows of the sign along singular vectors are the exact ones."""
    target, measured = Target(0.95, 0.2, dtype), model_spectra(model)
    choice = choose(measured, target, stratify(measured, 4), "cpu")
    schedule = evaluate(choice.option.code)
    resolved = []
    for spectrum in measured:
        G = spectrum.matrix.load()
        left, values, _ = torch.linalg.svd(G.double(), full_matrices=False)
        kept = values > spectrum.floor * values.norm()
        sign = matrix_sign(G, schedule=schedule, dtype=dtype).double()
        exact = matrix_sign(G.double(), backend="reference")
        differences = left[:, kept].mT @ (sign - exact)
        resolved.append(differences.norm(dim=1) <= target.tolerance)
    share = float(torch.cat(resolved).double().mean())
    assert share >= target.share
    assert choice.share_after_rounding == pytest.approx(share, abs=0.02)


def test_a_matrix_stands_for_those_up_to_the_next(model: Path) -> None:
    measured = model_spectra(model)
    strata = stratify(measured, 2)
    ordered = sorted(measured, key=lambda spectrum: spectrum.quantile(0.1))
    assert [each.representative for each in strata] == [ordered[0], ordered[2]]
    assert sum(each.num_values for each in strata) == len(pool_values(measured))
    assert len(stratify(measured, 9)) == 4


def test_a_dtype_too_coarse_for_the_spectrum_is_refused(tmp_path: Path) -> None:
    values = torch.logspace(0, -6, 64, dtype=torch.float64)
    path = save_safetensors(
        tmp_path / "m.safetensors", {"steep": matrix(values, 64, 64, torch.float32)}
    )
    measured = spectra(path)
    with pytest.raises(UnresolvedError, match=r"rounding costs \(most of steep\)") as error:
        choose(measured, Target(0.99, 0.1, torch.bfloat16), stratify(measured, 1), "cpu")
    share = float(str(error.value).partition("give --share ")[2].split()[0])
    coarse = choose(measured, Target(share, 0.1, torch.bfloat16), stratify(measured, 1), "cpu")
    assert coarse.share_after_rounding >= share
    fine = choose(measured, Target(0.99, 0.1, torch.float32), stratify(measured, 1), "cpu")
    assert fine.share_after_rounding >= 0.99
