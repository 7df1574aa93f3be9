"""The files that `memsolve spectrum` reads: selected matrices, momenta, and damage."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from memsolve_kernels.matrix_sign import minimax

from memsolve.optim import Muon
from memsolve.spectrum.matrices import read_matrices
from tests.memsolve.checkpoints import save_parts, save_safetensors
from tests.memsolve.spectrum_cases import run, save_model

VALID = {"a": torch.ones(2, 3)}
ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


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


def test_a_missing_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(tmp_path / "none.safetensors")) == 2
    assert "none.safetensors: No such file" in capsys.readouterr().err
