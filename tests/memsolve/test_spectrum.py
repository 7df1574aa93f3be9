"""`memsolve spectrum`: singular values in a checkpoint, and the schedule that resolves them."""

import csv
import io
import json
import sys
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

from memsolve.__main__ import main
from memsolve.optim import Muon
from memsolve.report.drawing import DESKTOP_WIDTH, PHONE_WIDTH, figure_style
from memsolve.report.page import render
from memsolve.spectrum import command
from memsolve.spectrum.choose import UnresolvedError, choose, stratify
from memsolve.spectrum.figure import GAUSSIAN, fit_power, spectrum_figure
from memsolve.spectrum.matrices import read_matrices
from memsolve.spectrum.schedules import Target, flops, resolved_share, schedule_options
from memsolve.spectrum.singular_values import Spectrum, pool_values, rounding_floor, spectra_of
from tests.memsolve.checkpoints import matrix, save_parts, save_safetensors

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
POWERS = torch.arange(1, 33, dtype=torch.float64) ** -1.0
CODE = {"minimax": minimax, "STOCK": STOCK, "replace": replace}


def spectra(path: Path) -> list[Spectrum]:
    return list(spectra_of(read_matrices([path]).matrices, "cpu"))


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
    """Matrices with spectra of power laws in three dtypes, and tensors that are no matrices."""
    shapes = [(48, 48), (32, 64), (96, 32), (24, 24)]
    tensors: dict[str, Tensor] = {
        f"layers.{seed}.weight": matrix(
            torch.arange(1, min(shape) + 1) ** -1.2, *shape, dtype, seed
        )
        for seed, (shape, dtype) in enumerate(
            zip(shapes, [torch.float32, torch.float32, torch.bfloat16, torch.float64], strict=True)
        )
    }
    tensors |= {
        "bias": torch.ones(5),
        "scale": torch.ones(5, 1, 1),
        "step": torch.ones(2, 2, dtype=torch.int64),
        "none": torch.ones(0, 3),
        "zero": torch.zeros(3, 3),
    }
    return save_safetensors(tmp_path_factory.mktemp("model") / "model.safetensors", tensors)


def model_spectra(model: Path) -> list[Spectrum]:
    return [spectrum for spectrum in spectra(model) if len(spectrum.values)]


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


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["memsolve", "spectrum", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_command_ends_with_a_line_that_makes_muon(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second run replaces the files
        assert run(monkeypatch, str(model), "--out", str(out), "--share", "0.9") == 0
    printed = capsys.readouterr().out
    last = printed.strip().splitlines()[-1]
    line, _, imports = last.partition("  # ")
    names: dict[str, Any] = {"Muon": Muon, "torch": torch}
    names["params"] = [torch.nn.Parameter(torch.randn(4, 6))]
    exec(imports, names)
    optimizer = eval(line, names)
    assert optimizer.param_groups[0]["dtype"] == torch.bfloat16
    optimizer.param_groups[0]["params"][0].grad = torch.randn(4, 6)
    optimizer.step()
    assert "left out: 2 vectors or numbers, 1 of other dtypes" in printed
    assert "1 empty" in printed
    assert "1 zero" in printed

    rows = list(csv.DictReader(io.StringIO((out / "spectrum.csv").read_text())))
    assert [row["matrix"] for row in rows] == [f"layers.{i}.weight" for i in range(4)]
    for row, spectrum in zip(rows, model_spectra(model), strict=True):
        assert float(row["quantile 0.1"]) == spectrum.quantile(0.1)
        assert 0 <= float(row["resolved"]) <= 1
    assert (out / "spectrum.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_is_drawn_for_both_widths(model: Path) -> None:
    for width in (DESKTOP_WIDTH, PHONE_WIDTH):
        for measured in (model_spectra(model), model_spectra(model)[:1]):
            with figure_style(width):
                assert render(spectrum_figure(measured)).alt


def test_patterns_select_matrices(model: Path) -> None:
    names = [
        each.name for each in read_matrices([model], ["layers.*"], ["*.1.*", "*.2.*"]).matrices
    ]
    assert names == ["layers.0.weight", "layers.3.weight"]


def test_names_of_several_files_name_the_file(tmp_path: Path) -> None:
    paths = [save_safetensors(tmp_path / f"{name}.safetensors", VALID) for name in "xy"]
    names = [each.name for each in read_matrices(paths).matrices]
    assert names == ["x.safetensors: a", "y.safetensors: a"]


def state_after_step(optimizer: Any, params: list[torch.nn.Parameter]) -> Any:
    for param in params:
        param.grad = torch.randn_like(param)
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("name", ["Muon", "torch Muon", "AdamW", "momenta"])
def test_momenta_of_an_optimizers_state_are_read(tmp_path: Path, name: str) -> None:
    params = [torch.nn.Parameter(torch.randn(6, 8)), torch.nn.Parameter(torch.randn(8, 4))]
    state: Any
    if name == "momenta":
        state = [torch.randn(6, 8), {"inner": (torch.randn(8, 4),)}]
    elif name == "Muon":
        state = state_after_step(Muon(params, schedule=minimax(1e-3, 0.1)), params)
    elif name == "torch Muon":
        state = {"optimizer": state_after_step(torch.optim.Muon(params), params), "epoch": 3}
    else:
        state = state_after_step(torch.optim.AdamW(params), params)
    torch.save(state, tmp_path / "state.pt")
    matrices = read_matrices([tmp_path / "state.pt"]).matrices
    assert [(each.rows, each.columns) for each in matrices] == [(6, 8), (8, 4)]
    assert not any("sq" in each.name for each in matrices)
    assert all(each.load().isfinite().all() for each in matrices)


def test_of_muon_with_adamw_the_momenta_of_muon_are_read(tmp_path: Path) -> None:
    params = [torch.nn.Parameter(torch.randn(*shape)) for shape in ((6, 8), (20, 4))]
    groups: list[dict[str, Any]] = [
        {"params": params[:1]},
        {"params": params[1:], "use_muon": False},
    ]
    torch.save(state_after_step(Muon(groups), params), tmp_path / "state.pt")
    (matrix,) = read_matrices([tmp_path / "state.pt"]).matrices
    assert matrix.name == "state.0.momentum_buffer"


def test_tensors_without_values_are_left_out(tmp_path: Path) -> None:
    tensors = {"meta": torch.empty(3, 4, device="meta"), "sparse": torch.eye(3).to_sparse()}
    torch.save({**tensors, "a": torch.ones(2, 3)}, tmp_path / "state.pt")
    (matrix,) = read_matrices([tmp_path / "state.pt"]).matrices
    assert matrix.name == "a"


class Payload:
    """What a malicious file would run."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return exec, ("raise SystemExit('unpickled')",)


VALID = {"a": torch.ones(2, 3)}
ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def write_damaged(folder: Path, kind: str) -> Path:
    path = folder / ("file.pt" if kind in ("payload", "half", "zip") else "file.safetensors")
    data = torch.zeros(24, dtype=torch.uint8)
    entries: dict[str, Any] = {
        "shape": ENTRY | {"shape": [2, 4]},
        "offsets": ENTRY | {"data_offsets": [24, 0]},
        "negative": ENTRY | {"shape": [-2, -3]},
        "fields": {"dtype": "F32"},
        "number": 3,
    }
    if kind in entries:
        return save_parts(path, json.dumps({"a": entries[kind]}).encode(), data)
    if kind == "truncated":
        path.write_bytes(save_safetensors(path, VALID).read_bytes()[:-1])
    elif kind == "header":
        path.write_bytes((10**6).to_bytes(8, "little") + b"{}")
    elif kind == "huge":
        path.write_bytes((10**12).to_bytes(8, "little") + b"{}")
    elif kind == "json":
        save_parts(path, b'{"a": ')
    elif kind == "deep":
        save_parts(path, b'{"a": ' + b"[" * 100_000)
    elif kind == "text":
        path.write_text("weights")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "payload":
        torch.save({"a": Payload()}, path)
    elif kind == "half":
        torch.save({"a": torch.ones(64, 64)}, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "zip":
        path.write_bytes(b"PK\x03\x04damaged")
    elif kind == "NaN":
        save_safetensors(path, {"good": torch.ones(2, 2), "bad": torch.full((2, 2), torch.nan)})
    elif kind == "zeros":
        save_safetensors(path, {"a": torch.zeros(2, 2)})
    else:
        save_safetensors(path, {"bias": torch.ones(3)})
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "truncated: tensor 'a' should end at byte"),
        ("header", "truncated: its header should end at byte 1000008"),
        ("huge", "has a header of 1000000000000 bytes"),
        ("json", "has a header that is no JSON"),
        ("deep", "has a header that is no JSON"),
        ("shape", "24 bytes, which are not those of F32 with shape (2, 4)"),
        ("offsets", "describes tensor 'a' by"),
        ("negative", "describes tensor 'a' by"),
        ("fields", "expected dtype, shape and two data_offsets"),
        ("number", "describes tensor 'a' by 3"),
        ("text", "is neither a safetensors file nor one of torch.save"),
        ("empty", "is neither a safetensors file"),
        ("folder", "is a folder; give .safetensors files"),
        ("payload", "weights_only=True (Unsupported global: GLOBAL exec was not an allowed"),
        ("half", "file.pt is no state of tensors"),
        ("zip", "is no state of tensors"),
        ("NaN", "bad contains NaN or infinity"),
        ("vectors", "holds no matrices (1 vectors or numbers)"),
        ("zeros", "all matrices are zero"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    message: str,
) -> None:
    assert run(monkeypatch, str(write_damaged(tmp_path, kind))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("memsolve: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--share 0", "--share is 0.0; expected a number in (0, 1]"),
        ("--tolerance 0.01", "room for rounding in bfloat16"),
        ("--dtype float8", "--dtype is 'float8'; expected one of float64"),
        ("--device abacus", "--device is 'abacus'"),
        ("--verify 0", "--verify is 0; expected an integer of at least 1"),
        ("--match nothing", "5 that --match does not name"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str,
) -> None:
    tensors = {str(number): torch.ones(2, 2) for number in range(5)}
    path = save_safetensors(tmp_path / "m.safetensors", tensors)
    assert run(monkeypatch, str(path), *options.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_missing_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(tmp_path / "none.safetensors")) == 2
    assert "none.safetensors: No such file" in capsys.readouterr().err


def test_without_a_schedule_the_spectrum_is_shown_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = torch.logspace(0, -6, 32, dtype=torch.float64)
    tensors = {"=steep [x]": matrix(values, 32, 32, torch.float32)}
    path = save_safetensors(tmp_path / "m.safetensors", tensors)
    assert run(monkeypatch, str(path), "--out", str(tmp_path / "out"), "--tolerance", "0.1") == 2
    output = capsys.readouterr()
    assert "=steep [x]" in output.out
    assert "no schedule resolves 99.00%" in output.err
    table = (tmp_path / "out" / "spectrum.csv").read_text()
    assert "'=steep [x]" in table


def test_an_interruption_leaves_no_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "spectra_of", interrupt)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert run(monkeypatch, str(model), "--out", str(tmp_path / "out")) == 130
    assert "no file is half-written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_picture_of_another_program_is_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spectrum.png").write_bytes(b"mine")
    assert run(monkeypatch, str(model), "--out", str(tmp_path)) == 2
    assert "was not written by memsolve" in capsys.readouterr().err
    assert (tmp_path / "spectrum.png").read_bytes() == b"mine"
