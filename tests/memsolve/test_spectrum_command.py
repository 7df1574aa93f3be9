"""The command `memsolve spectrum`: what it prints and writes, and what it refuses."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from memsolve.optim import Muon
from memsolve.report.drawing import DESKTOP_WIDTH, PHONE_WIDTH, figure_style
from memsolve.report.page import render
from memsolve.spectrum import command
from memsolve.spectrum.figure import spectrum_figure
from tests.memsolve.checkpoints import matrix, save_safetensors
from tests.memsolve.spectrum_cases import model_spectra, run, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


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
