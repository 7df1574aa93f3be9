"""The registry as pytest-benchmark cases: `pytest bench`, checked first, then timed.

pytest-benchmark does not know of GPUs, so each call ends with a synchronisation; its times hold
launches too. For device time see `python -m bench`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.cases import QUICK
from bench.machine import default_device
from bench.measure import clock
from bench.registry import Case, Way, matching
from bench.rows import check

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # torch.compile's own
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),  # by what failed before
]
PAIRS = [
    pytest.param(case, way, id=f"{case.name}-{way.name}")
    for case in matching(QUICK, "", default_device())
    for way in case.function.ways
]


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_speed(case: Case, way: Way, benchmark: Callable[[Callable[[], Any]], Any]) -> None:
    inputs = case.inputs()
    found = check(case, way, inputs, case.function.reference(inputs), clock(case.device))
    if found.row.status == "skipped":
        pytest.skip(found.row.note)
    assert found.run is not None, f"{found.row.status}: {found.row.note}"
    run = found.run

    def finished() -> None:
        run()
        if case.device == "cuda":
            torch.cuda.synchronize()

    benchmark(finished)
