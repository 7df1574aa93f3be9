"""Seconds per item of our functions, by the registry's cases."""

import statistics

import torch

from bench.cases import QUICK
from bench.measure import sampled
from bench.registry import OURS, Case
from bench.trial import Trial

SECONDS = 1.0


def seconds_per_item(case: Case) -> float:
    """Median device seconds of a call, over its items; checked against float64 first.

    Raises:
        NotImplementedError: the commit lacks the function.
        RuntimeError: its result is wrong, or it fails.
    """
    trial = Trial(case)
    ours = trial.check(case.function.ours)
    if ours.run is None:
        reason = NotImplementedError if ours.verdict.status == "skipped" else RuntimeError
        raise reason(ours.verdict.note)
    samples = sampled({OURS: ours.run}, trial.clock, SECONDS)[OURS].hot
    return statistics.median(sample.device for sample in samples) / case.items


class Speed:
    """`setup` measures, because only there can a commit without the function be skipped."""

    params = tuple(case.name for case in QUICK)
    param_names = ("case",)
    timeout = 600

    def setup(self, name: str) -> None:
        (case,) = (case for case in QUICK if case.name == name)
        if case.device == "cuda" and not torch.cuda.is_available():
            raise NotImplementedError("no GPU here")
        self.seconds = seconds_per_item(case)

    def track_seconds_per_item(self, name: str) -> float:
        return self.seconds

    track_seconds_per_item.unit = "seconds/item"  # type: ignore[attr-defined]
    track_seconds_per_item.version = "1"  # type: ignore[attr-defined]
