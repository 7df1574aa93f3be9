"""Runs the Triton tests in Triton's interpreter where there is no GPU to run them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton")


def version(module: object) -> tuple[int, ...]:
    return tuple(int(part) for part in getattr(module, "__version__").split(".")[:2])  # noqa: B009


@pytest.mark.skipif(torch.cuda.is_available(), reason="they run on the GPU itself")
@pytest.mark.skipif(
    version(triton) < (3, 7) and version(np) >= (2, 4),
    reason="the interpreter of Triton 3.6 needs numpy < 2.4",
)
@pytest.mark.parametrize("name", ["tensor_cores", "softmax_triton", "matrix_sign_triton"])
def test_in_the_interpreter(name: str) -> None:
    tests = Path(__file__).with_name(f"test_{name}.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=tests.parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
