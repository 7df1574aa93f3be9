"""The tests that need a GPU, run on a fake one: that they run, and what they launch compiles."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

FILES = "test_softmax_triton.py", "test_softmax_gpu.py", "test_matrix_sign_triton.py"
NEEDS_NUMBERS = "certificate", "wrong_kernel"  # which they have in the interpreter
NEEDS_CUDA = ("without_graph_breaks",)  # so does what `torch.compile` generates


@pytest.mark.skipif(torch.cuda.is_available(), reason="they run on the GPU itself")
def test_gpu_tests_run_on_a_fake_gpu() -> None:
    folder = Path(__file__).parent
    command = ["-m", "pytest", "-q", "-rs", "-p", "tests.rehearsing", "-p", "no:cacheprovider"]
    chosen = [
        "-k",
        f"not ({' or '.join((*NEEDS_NUMBERS, *NEEDS_CUDA))})",
        *(str(folder / name) for name in FILES),
    ]
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, *command, *chosen],
        env=variables,
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    skipped = {line.rpartition(": ")[2] for line in run.stdout.splitlines() if "SKIPPED" in line}
    assert skipped == {"it takes its own presets", "there is something to time"}  # on a GPU
