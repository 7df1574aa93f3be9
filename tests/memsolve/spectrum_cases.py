"""A checkpoint for the tests of `memsolve spectrum`, and what is measured of it."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from memsolve.__main__ import main
from memsolve.spectrum.matrices import read_matrices
from memsolve.spectrum.singular_values import Spectrum, spectra_of
from tests.memsolve.checkpoints import matrix, save_safetensors


def spectra(path: Path) -> list[Spectrum]:
    return list(spectra_of(read_matrices([path]).matrices, "cpu"))


def save_model(folder: Path) -> Path:
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
    return save_safetensors(folder / "model.safetensors", tensors)


def model_spectra(model: Path) -> list[Spectrum]:
    return [spectrum for spectrum in spectra(model) if len(spectrum.values)]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `memsolve spectrum`."""
    monkeypatch.setattr(sys, "argv", ["memsolve", "spectrum", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)
