"""A pytest plugin, `-p tests.rehearsing`, that runs tests on the GPU of `tests.faked_gpu`.

Comparisons hold, since there are no numbers; what a test calls, launches and compiles is real.
"""

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tests.faked_gpu import check, faked_gpu

STANDS_IN: dict[str, Any] = {
    "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
    "graph": lambda graph: nullcontext(),
    "set_sync_debug_mode": lambda mode: warnings.warn(
        "Synchronization debug mode is a prototype feature", stacklevel=2
    ),
    "reset_peak_memory_stats": lambda: None,
    "memory_allocated": lambda: 0,
    "max_memory_allocated": lambda: 1,
}
torch.cuda.is_available = lambda: True  # as test modules see it when they are imported


def _to(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
    device, dtype, _, _ = torch._C._nn._parse_to(*arguments, **options)
    moved: Tensor = torch.ops.aten._to_copy(tensor, device=device, dtype=dtype)
    return moved


MOVES: dict[str, Any] = {
    "to": _to,
    "cpu": lambda tensor: _to(tensor, "cpu"),
    "cuda": lambda tensor: _to(tensor, "cuda"),
    "double": lambda tensor: _to(tensor, torch.float64),
    "float": lambda tensor: _to(tensor, torch.float32),
    "half": lambda tensor: _to(tensor, torch.float16),
    "long": lambda tensor: _to(tensor, torch.int64),
    "contiguous": lambda tensor: torch.ops.aten.contiguous(tensor),
    "new_tensor": lambda tensor, number: tensor.new_full((), number),
    "nonzero": lambda tensor: torch.empty(0, tensor.dim(), dtype=torch.int64),  # as of no error
    "requires_grad_": lambda tensor: tensor,
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with (
        patch.multiple(torch.cuda, **STANDS_IN),
        faked_gpu() as launches,
        torch.no_grad(),
        patch.object(torch.testing, "assert_close", lambda *values, **tolerances: None),
        patch.multiple(Tensor, **MOVES),
    ):
        yield
    check(launches)
