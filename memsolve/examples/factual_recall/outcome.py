"""What an optimizer has taught models of one width, with the step size that served best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve.engine import Point
from memsolve.engine.results.estimate import SHARE, Estimate, Floats, mean
from memsolve.examples.factual_recall.facts import BUCKETS, Facts
from memsolve.examples.factual_recall.training import Recollection
from memsolve.study.training.grid import TrainingGrid, Trial, TuningKey
from memsolve.study.training.selection import select
from memsolve.study.training.trajectory import marks_of
from memsolve.study.training.tuning import TUNING_SEEDS
from memsolve.training import Schedule

Recollections = Mapping[Trial, Recollection]


@dataclass(frozen=True)
class Recalled(Point):
    """What one optimizer has taught models of one width.

    Attributes:
        num_items: number of facts `N`.
        sizes: (3,) facts of head, torso and tail.
        marks: (M,) steps after which all facts were asked for.
        met: (M, 3) facts that the prompts have asked for by then, expected.
        recalled: (M, S, 3) facts recalled, by seed; 0 from where a run ended early.
        schedule, lr: as tuned.
        edge: the step size is the smallest or largest that was tried.
        seconds: median of a step, on this machine.
        note: what ended early; empty if nothing did.
    """

    axes: ClassVar = {"sizes": "3", "marks": "M", "met": "M 3", "recalled": "M S 3"}

    num_items: int
    sizes: list[int]
    marks: list[int]
    met: list[list[float]]
    recalled: list[list[list[int]]]
    schedule: Schedule
    lr: float
    edge: bool
    seconds: float
    note: str = ""

    @property
    def totals(self) -> Floats:
        """(S,) facts recalled after the last step."""
        return np.array([sum(counts) for counts in self.recalled[-1]], dtype=float)

    @property
    def total(self) -> Estimate:
        """Their mean, and the interval over seeds."""
        return mean(self.totals)

    @property
    def shares(self) -> list[Estimate]:
        """The share of each bucket, likewise."""
        ends = np.array(self.recalled[-1]) / self.sizes
        return [mean(ends[:, bucket], SHARE) for bucket in range(len(BUCKETS))]


def recalled(grid: TrainingGrid, place: TuningKey, runs: Recollections) -> Recalled:
    """What the runs at one place have come to."""
    chosen = select({run: found for run, found in runs.items() if run.seed in TUNING_SEEDS})
    best = [
        found
        for run, found in runs.items()
        if run.seed not in TUNING_SEEDS and run.candidate == chosen.candidate
    ]
    marks = marks_of(grid.steps)
    nothing = [0] * len(BUCKETS)
    by_seed = [found.buckets + [nothing] * (len(marks) - len(found.marks)) for found in best]
    early = [found for found in best if not found.complete]
    reasons = "; ".join(dict.fromkeys(found.failed or "it diverged" for found in early))
    assert place.batch_size is not None
    facts = Facts(grid.items_of(place.dim), place.alpha, seed=0)
    return Recalled(
        dim=place.dim,
        num_items=grid.items_of(place.dim),
        sizes=facts.sizes,
        marks=marks,
        met=[facts.met(mark * place.batch_size) for mark in marks],
        recalled=[list(seeds) for seeds in zip(*by_seed, strict=True)],
        schedule=chosen.schedule,
        lr=chosen.lr,
        edge=chosen.at_edge,
        seconds=float(np.median([found.seconds for found in best])),
        note=f"{len(early)} of {len(best)} seeds ended early: {reasons}" if early else "",
    )
