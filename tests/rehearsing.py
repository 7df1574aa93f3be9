"""A pytest plugin, `-p tests.rehearsing`, that runs tests on the GPU of `tests.faked_gpu`.

Comparisons hold, since there are no numbers; what a test calls, launches and compiles is real.
"""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from memsolve_kernels.softmax import copies

from tests.faked_gpu import check, faked_gpu

torch.cuda.is_available = lambda: True  # as test modules see it when they are imported


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with (
        faked_gpu() as launches,
        patch.object(copies, "AT_A_TIME", 1 << 40),  # fake ones need no cache
        patch.object(torch.testing, "assert_close", lambda *values, **tolerances: None),
    ):
        yield
    check(launches)
