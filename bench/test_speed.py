"""The registry as pytest-benchmark cases: `pytest bench`, checked first, then timed.

pytest-benchmark does not know of GPUs, so each call ends with a synchronisation; its times hold
launches too. For device time see `python -m bench`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.cases import QUICK
from bench.registry import Case, Way, default_device, matching
from bench.trial import Trial

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
    verdict, _, run = Trial(case).check(way)
    if verdict.status == "skipped":
        pytest.skip(verdict.note)
    assert run is not None, f"{verdict.status}: {verdict.note}"

    def finished() -> None:
        run()
        if case.device == "cuda":
            torch.cuda.synchronize()

    benchmark(finished)
