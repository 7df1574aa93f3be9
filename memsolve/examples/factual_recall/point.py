"""The facts that models of one width recover, trained by one optimizer at its best settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve.engine import Point
from memsolve.engine.results.estimate import SHARE, Estimate, Floats, mean
from memsolve.examples.factual_recall.facts import BUCKETS, Facts
from memsolve.examples.factual_recall.training import RecallRun
from memsolve.study.training.grid import TrainingGrid, Trial, TuningKey
from memsolve.study.training.point import median_time
from memsolve.study.training.selection import select
from memsolve.study.training.trajectory import marks_of
from memsolve.study.training.tuning import TUNING_SEEDS
from memsolve.training import Schedule

Runs = Mapping[Trial, RecallRun]


@dataclass(frozen=True)
class RecallPoint(Point):
    """Facts recovered by models of one width, trained by one optimizer.

    Attributes:
        num_items: number of facts `N`.
        bucket_sizes: (3,) facts in head, torso and tail.
        marks: (M,) steps after which all facts were evaluated.
        expected_distinct: (M, 3) expected number of facts in the prompts until then.
        recovered: (M, S, 3) facts recovered, by seed; 0 after a run has ended early.
        schedule, lr, ratio: as tuned.
        at_edge: whether the learning rate or the ratio is the smallest or the largest that was
            tried.
        seconds: median time of a step, on this machine; None if the runs ran beside others.
        note: which runs ended early, and why; empty if none did.
    """

    axes: ClassVar = {
        "bucket_sizes": "3",
        "marks": "M",
        "expected_distinct": "M 3",
        "recovered": "M S 3",
    }

    num_items: int
    bucket_sizes: list[int]
    marks: list[int]
    expected_distinct: list[list[float]]
    recovered: list[list[list[int]]]
    schedule: Schedule
    lr: float
    at_edge: bool
    seconds: float | None
    note: str = ""
    ratio: float = 1.0

    @property
    def totals(self) -> Floats:
        """(S,) facts recovered after the last step."""
        return np.array([sum(counts) for counts in self.recovered[-1]], dtype=float)

    @property
    def total(self) -> Estimate:
        """The mean of `totals`, with its interval over seeds."""
        return mean(self.totals)

    @property
    def shares(self) -> list[Estimate]:
        """The share of each bucket that is recovered after the last step."""
        shares = np.array(self.recovered[-1]) / self.bucket_sizes
        return [mean(shares[:, bucket], SHARE) for bucket in range(len(BUCKETS))]


def recall_point(grid: TrainingGrid, key: TuningKey, runs: Runs) -> RecallPoint:
    """The point of one tuning key: its best trial on the seeds that are not for tuning."""
    tuning = {trial: run for trial, run in runs.items() if trial.seed in TUNING_SEEDS}
    best = select(tuning, grid.steps)
    reported = [
        run
        for trial, run in runs.items()
        if trial.seed not in TUNING_SEEDS and trial.candidate == best.candidate
    ]
    marks = marks_of(grid.steps)
    zeros = [0] * len(BUCKETS)
    by_seed = [run.buckets + [zeros] * (len(marks) - len(run.marks)) for run in reported]
    early = [run for run in reported if not run.complete]
    reasons = "; ".join(dict.fromkeys(run.failed or "it diverged" for run in early))
    assert key.batch_size is not None
    facts = Facts(grid.items_of(key.dim), key.alpha, seed=0)
    return RecallPoint(
        dim=key.dim,
        num_items=grid.items_of(key.dim),
        bucket_sizes=facts.bucket_sizes,
        marks=marks,
        expected_distinct=[facts.expected_distinct(mark * key.batch_size) for mark in marks],
        recovered=[list(seeds) for seeds in zip(*by_seed, strict=True)],
        schedule=best.schedule,
        lr=best.lr,
        at_edge=best.at_edge,
        ratio=best.ratio,
        seconds=median_time(run.seconds for run in reported),
        note=f"{len(early)} of {len(reported)} seeds ended early: {reasons}" if early else "",
    )
