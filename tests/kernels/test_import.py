"""What an import and first calls load: seconds of CPU time in every process."""

import subprocess
import sys

import pytest

CALLS = """
import torch
import memsolve_kernels as mk

queries, outputs, targets = torch.eye(2), torch.eye(3, 2), torch.tensor([0, 1])
mk.softmax_gradient(queries, outputs, targets)
mk.softmax_hvp(queries, queries, outputs, targets)
mk.retrieval(queries, outputs, targets)
mk.softmax_loss(queries.requires_grad_(), outputs, targets).backward()
mk.matrix_sign(torch.eye(2), schedule="muon")
"""


@pytest.mark.parametrize("program", ["import memsolve_kernels", CALLS], ids=["import", "calls"])
def test_no_compiler_is_loaded(program: str) -> None:
    show = "\nimport sys; print('torch._dynamo' in sys.modules, 'triton' in sys.modules)"
    command = [sys.executable, "-c", program + show]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.split() == ["False", "False"]
