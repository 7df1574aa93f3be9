"""A pytest plugin, `-p tests.rehearsing`, that runs tests on the GPU of `tests.faked_gpu`.

Comparisons pass, since there are no numbers; calls, launches and compilation are real.
"""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from memsolve_kernels.softmax import copies, interface, torch_tiles

from tests.faked_gpu import check, faked_gpu

torch.cuda.is_available = lambda: True  # as test modules see it when they are imported


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with (
        faked_gpu() as launches,
        patch.object(copies, "AT_A_TIME", 1 << 40),  # fake tensors need no cache
        patch.object(interface, "elements_at_once", lambda device: 1 << 40),
        patch.object(torch_tiles, "elements_at_once", lambda device: 1 << 40),
        patch.object(torch.testing, "assert_close", lambda *values, **tolerances: None),
    ):
        yield
    check(launches)
