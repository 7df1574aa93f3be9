"""`python -m bench.gate.worker`: measures the packages on its path, a line of JSON at a time."""

import json
import math
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

from bench import compiled, quantities
from bench.cases import QUICK
from bench.measure import Clock, clock
from bench.registry import Run, Unsupported
from bench.rows import check

T = TypeVar("T")
TRIES = 8
LEAST_SECONDS = 2e-3  # of a try: short ones find a quiet moment


class Measuring:
    """The verbs."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[Clock, Run, int]] = {}

    def where(self) -> dict[str, str | None]:
        """The files of the packages under test; finding them imports nothing."""
        specs = {name: find_spec(name) for name in ("memsolve", "memsolve_kernels")}
        return {name: None if spec is None else spec.origin for name, spec in specs.items()}

    def load(self, case: str) -> dict[str, str]:
        """Check a case and keep it ready; says whether it is right."""
        (found,) = (entry for entry in QUICK if entry.name == case)
        timer = clock(found.device)
        inputs = found.inputs()
        truth = found.function.reference(inputs)
        ours = check(found, found.function.ours, inputs, truth, timer)
        if ours.run is not None:
            calls = math.ceil(LEAST_SECONDS / timer.hot(ours.run, 1).device)
            self._loaded[case] = timer, ours.run, calls
        return {"status": ours.row.status, "note": ours.row.note}

    def sample(self, case: str) -> float:
        """Device seconds of a call, the quickest of several tries: what disturbs only adds."""
        timer, run, calls = self._loaded[case]
        return min(timer.hot(run, calls).device for _ in range(TRIES))

    def quantities(self, dims: list[int], seeds: int) -> quantities.Quantities | None:
        """What optimizers store; None where the package has no studies."""
        return _or_none(lambda: quantities.quantities(tuple(dims), seeds))

    def compiled(self, architectures: list[int]) -> compiled.Compiled | None:
        """What the presets compile to; None where the package compiles nothing."""
        return _or_none(lambda: compiled.compiled(tuple(architectures)))


def _or_none(measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except Unsupported:
        return None


def main() -> None:
    """Answer until stdin ends; whatever a package prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    measuring = Measuring()
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        try:
            answer = {"answer": getattr(measuring, verb)(**arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
