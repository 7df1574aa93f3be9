"""The registry as pytest-benchmark cases: `pytest bench`, checked first, then timed.

pytest-benchmark does not support GPUs, so each call ends with a synchronisation; its times include
launches. For device time see `python -m bench`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.cases import QUICK
from bench.registry import Case, Implementation, default_device, select
from bench.timing import Measurement

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # torch.compile's own
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),  # by what failed before
]
PAIRS = [
    pytest.param(case, implementation, id=f"{case.name}-{implementation.name}")
    for case in select(QUICK, "", default_device())
    for implementation in case.function.implementations
]


@pytest.mark.parametrize(("case", "implementation"), PAIRS)
def test_speed(
    case: Case, implementation: Implementation, benchmark: Callable[[Callable[[], Any]], Any]
) -> None:
    measurement = Measurement.of(case, implementation)
    timing = measurement.timing
    if timing.status == "skipped":
        pytest.skip(timing.note)
    assert timing.is_valid, f"{timing.status}: {timing.note}"

    def synchronized() -> None:
        measurement.run()
        if case.device == "cuda":
            torch.cuda.synchronize()

    benchmark(synchronized)
