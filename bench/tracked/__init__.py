"""Followed over commits by asv, which takes lower for better.

The suite is that of the working tree and the package is that of the commit; a benchmark is skipped
where the commit lacks what it measures, by NotImplementedError in `setup`. `version` is set by
hand, so that history survives a change of the suite; raise it where a number changes its meaning.
"""

import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

if "bench" not in sys.modules:  # asv imports this folder by itself, as `tracked`
    sys.modules["bench"] = ModuleType("bench")
    sys.modules["bench"].__path__ = [str(Path(__file__).parents[1])]

from bench import metrics
from bench.cases import QUICK
from bench.registry import OURS, Case
from bench.sampling import sample
from bench.timing import Measurement

SECONDS = 1.0


def median_seconds(case: Case) -> float:
    """Median device seconds of a call of ours, checked against float64 first.

    Raises:
        NotImplementedError: the commit lacks the function.
        RuntimeError: its result is wrong, or it fails.
    """
    measurement = Measurement.of(case, case.ours)
    timing = measurement.timing
    if not timing.is_valid:
        error = NotImplementedError if timing.status == "skipped" else RuntimeError
        raise error(timing.note)
    hot, _ = sample({OURS: measurement}, SECONDS)
    return statistics.median(each.device for each in hot[OURS])


class Speed:
    """Seconds of our functions. `setup` measures: only there can a commit be skipped."""

    params = tuple(case.name for case in QUICK)
    param_names = ("case",)
    timeout = 600

    def setup(self, name: str) -> None:
        case = next(case for case in QUICK if case.name == name)
        if case.device == "cuda" and not torch.cuda.is_available():
            raise NotImplementedError("no GPU here")
        self.seconds = median_seconds(case)

    def track_seconds(self, name: str) -> float:
        return self.seconds

    track_seconds.unit = "seconds"  # type: ignore[attr-defined]
    track_seconds.version = "1"  # type: ignore[attr-defined]


class Capacity:
    """What optimizers store: exactly reproducible, and each number with one that falls."""

    params = metrics.OPTIMIZERS
    param_names = ("optimizer",)
    timeout = 600

    def setup_cache(self) -> metrics.Metrics:
        try:
            return metrics.storage_metrics()
        except ImportError:
            return {}

    def setup(self, values: metrics.Metrics, optimizer: str) -> None:
        if optimizer not in values:
            raise NotImplementedError("this commit has no studies")


class Compiled:
    """What kernels and their main loops need, by count of machine code: no GPU, no noise."""

    params = metrics.variant_labels()
    param_names = ("variant",)
    timeout = 1800

    def setup_cache(self) -> metrics.Metrics:
        try:
            return metrics.compiled_metrics()
        except ImportError:
            return {}

    def setup(self, values: metrics.Metrics, variant: str) -> None:
        if variant not in values:
            raise NotImplementedError("this commit has no such variant")


def _tracker(name: str, unit: str) -> Any:
    """A benchmark: one of the numbers that `setup_cache` has for a parameter, else NaN."""

    def track(suite: object, values: metrics.Metrics, parameter: str) -> float:
        return values[parameter].get(name, float("nan"))

    track.unit, track.version = unit, "1"  # type: ignore[attr-defined]
    return track


for _suite, _units in ((Capacity, metrics.STORAGE_UNITS), (Compiled, metrics.COMPILED_UNITS)):
    for _name, _unit in _units.items():
        setattr(_suite, f"track_{_name}", _tracker(_name, _unit))
