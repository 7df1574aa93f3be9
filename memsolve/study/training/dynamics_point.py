"""What training has come to at one `d`, with the schedule and step size that served best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from memsolve import theory
from memsolve.engine import Point
from memsolve.engine.results.estimate import Floats
from memsolve.study.training.grid import TrainingGrid, TuningKey
from memsolve.study.training.trajectory import Trajectories, Trajectory, choose
from memsolve.training import Schedule

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class DynamicsPoint(Point):
    """Training at one `d`, with the schedule and step size that served best.

    Lists run over steps, then over what is named. A run that ended early, because it diverged or a
    step failed, has recovered nothing from then on.

    Attributes:
        num_items: number of facts `N`.
        limit: about what any weight can store, `theory.limit`.
        schedule, lr: of the chosen trials, one a seed.
        edge: the chosen step size is the smallest or largest that was tried.
        seconds: median of a step of the chosen trials, on this machine.
        recovered: (T, S) items after each step, by seed.
        top_rank: (T, S) highest recovered rank, likewise.
        loss: (L, S) before each step, on its batch, as far as all seeds have come.
        best: (T,) the most that any trial has recovered after each step, mean over seeds: a
            tuning of its own for each number of steps.
        marks: (M,) steps after which margins were taken, likewise.
        margins: (M, 5) quantiles of margins (5 to 95%), mean over seeds.
        tried_schedule, tried_lr, tried_recovered: (K,) every trial, and what it has
            recovered in the end, mean over seeds.
        law: (T,) exponents of `d` that theory gives the number recovered; empty without a law.
        note: which of the chosen trials ended early, and when; empty if none did.
    """

    axes: ClassVar = {
        "recovered": "T S",
        "top_rank": "T S",
        "loss": "l S",
        "best": "T",
        "marks": "m",
        "margins": "m 5",
        "tried_schedule": "K",
        "tried_lr": "K",
        "tried_recovered": "K",
        "law": "T?",
    }

    num_items: int
    limit: float
    schedule: Schedule
    lr: float
    edge: bool
    seconds: float
    recovered: list[list[int]]
    top_rank: list[list[int]]
    loss: list[list[float]]
    best: list[float]
    marks: list[int]
    margins: list[list[float]]
    tried_schedule: list[str]
    tried_lr: list[float]
    tried_recovered: list[float]
    law: list[float]
    note: str = ""

    @property
    def plateau(self) -> list[int]:
        """Items recovered after the last step, by seed."""
        return self.recovered[-1]


def law_of(method: theory.Method | None, place: TuningKey, steps: int) -> list[float]:
    """Exponents by step, where theory has them: of the population, by SGD and Muon."""
    if method not in ("sgd", "muon") or place.batch_size is not None:
        return []
    return theory.exponents_by_step(method, place.alpha, steps)


def training(
    grid: TrainingGrid, method: theory.Method | None, place: TuningKey, runs: Trajectories
) -> DynamicsPoint:
    """What training at one place has come to."""
    chosen = choose(runs)
    best = [
        result
        for run, result in runs.items()
        if (run.schedule, run.lr) == (chosen.schedule, chosen.lr)
    ]
    common = min(len(result.loss) for result in best)
    tried = sorted({(run.schedule, run.lr) for run in runs})
    curves = [mean_curve(runs, schedule, size, grid.steps) for schedule, size in tried]
    num_items = grid.items_of(place.dim)
    return DynamicsPoint(
        dim=place.dim,
        num_items=num_items,
        limit=theory.limit(place.dim, num_items),
        schedule=chosen.schedule,
        lr=chosen.lr,
        edge=chosen.edge,
        seconds=float(np.median([result.seconds for result in best])),
        recovered=by_step([padded(result.recovered, grid.steps) for result in best]),
        top_rank=by_step([padded(result.top_rank, grid.steps) for result in best]),
        loss=by_step([result.loss[:common] for result in best]),
        best=np.max(curves, axis=0).tolist(),
        marks=min((result.marks for result in best), key=len),
        margins=mean_margins(best),
        tried_schedule=[schedule for schedule, _ in tried],
        tried_lr=[size for _, size in tried],
        tried_recovered=[float(curve[-1]) for curve in curves],
        law=law_of(method, place, grid.steps),
        note=early_ends(best),
    )


def padded(counts: Sequence[int], steps: int) -> list[int]:
    """(T,) counts after each step, 0 from where a run ended early."""
    return [*counts, *[0] * (steps - len(counts))]


def by_step(by_seed: Sequence[Sequence[Number]]) -> list[list[Number]]:
    """(T, S) from the lists of seeds, (S, T)."""
    return [list(seeds) for seeds in zip(*by_seed, strict=True)]


def early_ends(results: Sequence[Trajectory]) -> str:
    """`diverged after step 3 (1 of 3 seeds)`, and likewise what failed; empty if all are whole."""
    ends = {
        "diverged": [len(result.recovered) for result in results if result.diverged],
        "failed": [len(result.recovered) for result in results if result.failed],
    }
    return ", ".join(
        f"{how} after step {', '.join(map(str, sorted(set(after))))} "
        f"({len(after)} of {len(results)} seeds)"
        for how, after in ends.items()
        if after
    )


def mean_margins(results: Sequence[Trajectory]) -> list[list[float]]:
    """(M, 5) quantiles of margins, mean over seeds, as far as all of them have come."""
    marks = min(len(result.marks) for result in results)
    if not marks:
        return []
    means: list[list[float]] = np.mean(
        [result.margins[:marks] for result in results], axis=0
    ).tolist()
    return means


def mean_curve(runs: Trajectories, schedule: Schedule, lr: float, steps: int) -> Floats:
    """(T,) items recovered after each step, mean over seeds."""
    curves = [
        np.array(padded(result.recovered, steps), dtype=float)
        for run, result in runs.items()
        if (run.schedule, run.lr) == (schedule, lr)
    ]
    mean: Floats = np.mean(curves, axis=0)
    return mean
