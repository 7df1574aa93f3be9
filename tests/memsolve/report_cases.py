"""Finished studies of so many optimizers, made up: what a report has to hold."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from memsolve import theory
from memsolve.engine import Fit, Point, Summary
from memsolve.engine.results.estimate import Estimate
from memsolve.engine.study import AnyStudy
from memsolve.study import capacity, critical_batch, dynamics, leaderboard, precision, saturation
from memsolve.study.critical_batch.point import BatchScalingPoint
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.one_step.crossing import SaturationPoint
from memsolve.study.one_step.one_step import CapacityPoint
from memsolve.study.one_step.precision import PrecisionPoint
from memsolve.study.training.dynamics_point import DynamicsPoint

DIMS = 32, 64, 128
STEPS = 40
BATCHES = [4**power for power in range(8)]
FAMOUS = (
    "sgd",
    "muon",
    "newton",
    "torch.optim.AdamW:lr=0.01",
    "torch.optim.AdamW:lr=0.01:betas=(0.9, 0.95):weight_decay=0.1",
    "torch.optim.AdamW:lr=0.01:betas=(0.9, 0.99):weight_decay=0.1",
    "heavyball.ForeachSOAP",
    "pytorch_optimizer.Kron",
    "schedulefree.AdamWScheduleFree",
)


def names(count: int) -> list[str]:
    """Labels as people give them: short ones, paths, and long ones with settings."""
    invented = [f"pytorch_optimizer.Number{place}:lr=0.01" for place in range(count)]
    return [*FAMOUS, *invented][:count]


def study(name: str, count: int) -> tuple[AnyStudy, Summary[Any]]:
    """A study of that name and its summary."""
    known: dict[str, tuple[AnyStudy, Callable[[int, float], Point]]] = {
        "capacity": (capacity, counts),
        "saturation": (saturation, saturating),
        "precision": (precision, share),
        "dynamics": (dynamics, training),
        "critical-batch": (critical_batch, scaled),
        "leaderboard": (leaderboard, standing),
    }
    found, point = known[name]
    law = None if name == "critical-batch" else theory.Law(1.3, "published")
    fits: list[Fit[Any]] = [
        Fit(
            label,
            1.5,
            "plateau",
            interval(1 + 1.3**-place),
            law,
            [point(dim, level(dim, place)) for dim in DIMS],
        )
        for place, label in enumerate(names(count))
    ]
    environment: dict[str, str | int] = {"memsolve": "0", "device": "a CPU of the tests"}
    return found, Summary(name, f"memsolve {name} --seeds 2", environment, fits)


def level(dim: int, place: int) -> float:
    """What the optimizer at a place stores: a little less than the one before it."""
    return 0.3 * math.pow(dim, 1 + 1.3 ** -(place + 1)) / (1 + place / 30)


def interval(value: float) -> Estimate:
    return Estimate(value, 0.9 * value, 1.1 * value)


def counts(dim: int, mean: float) -> CapacityPoint:
    recovered = [round(0.9 * mean), round(1.1 * mean)]
    return CapacityPoint(dim, 64 * dim, recovered, recovered)


def share(dim: int, mean: float) -> PrecisionPoint:
    part = min(1, mean / dim)
    return PrecisionPoint(dim, 64 * dim, [round(mean)], [round(mean)], part, 0.9 * part, 1.1 * part)


def saturating(dim: int, mean: float) -> SaturationPoint:
    distinct = [float(batch) ** 0.7 for batch in BATCHES]
    recovered = [[min(mean, seen), min(1.1 * mean, seen)] for seen in distinct]
    value = mean ** (1 / 0.7)
    return SaturationPoint(
        dim, value, 0.8 * value, 1.2 * value, "", 1.0, mean, mean, BATCHES, distinct, recovered
    )


def training(dim: int, mean: float) -> DynamicsPoint:
    steps = np.arange(1, STEPS + 1)
    curve = mean * (1 - np.exp(-steps / 10))
    recovered = [[round(0.9 * count), round(1.1 * count)] for count in curve]
    return DynamicsPoint(
        dim=dim,
        num_items=64 * dim,
        limit=theory.limit(dim, 64 * dim),
        schedule="constant",
        lr=0.1,
        edge=dim == 32,
        seconds=0.001,
        recovered=recovered,
        top_rank=recovered,
        loss=[[8 / (1 + mean * step / 1000)] * 2 for step in steps],
        best=[1.2 * count for count in curve],
        marks=[1, 2, 4, 8, 16, 32, 40],
        margins=[
            [-9.0, -4.0, mean / 100 * mark - 3, 2.0, 4.0] for mark in (1, 2, 4, 8, 16, 32, 40)
        ],
        tried_schedule=["constant"] * 5 + ["cosine"] * 5,
        tried_lr=[4.0**power for power in range(5)] * 2,
        tried_recovered=[mean * part for part in (0.2, 0.6, 1, 0.7, 0.3, 0.1, 0.5, 0.8, 0.9, 0.2)],
        law=[1.3 + 0.02 * step for step in range(STEPS)],
    )


def standing(dim: int, mean: float) -> LeaderboardPoint:
    curve = [float(mean * (1 - math.exp(-step / 10))) for step in range(1, STEPS + 1)]
    return LeaderboardPoint(
        dim=dim,
        num_items=64 * dim,
        limit=theory.limit(dim, 64 * dim),
        horizons=[1, 10, STEPS],
        schedules=["inverse", "constant", "constant"],
        lrs=[1.0, 4.0, 16.0],
        edges=[False, False, dim == 32],
        recovered=[[round(0.9 * curve[at]), round(1.1 * curve[at])] for at in (0, 9, -1)],
        curve=curve,
        time=[1.1, 1.2],
        state=2.0,
        critical=interval(mean) if dim == 32 else Estimate(None, note="measured at d = 32 alone"),
        took=1.0,
    )


def scaled(dim: int, mean: float) -> BatchScalingPoint:
    steps = [math.ceil(4 * (1 + mean / batch)) for batch in BATCHES] + [4]
    some = interval(mean)
    return BatchScalingPoint(
        dim=dim,
        target=mean,
        horizon=100,
        batch_sizes=[*BATCHES, None],
        lrs=[0.1] * len(steps),
        edge=[False] * len(steps),
        steps=[[count if count < 100 else None] * 2 for count in steps],
        floor=4.0,
        slope=mean,
        misfit=1.1,
        critical=some if dim > 32 else Estimate(None, note="not identified: no batch got there"),
        overhead=interval(mean / 2),
        noise_at_zero=some,
        noise_at_target=some,
        noise_of_batches=some,
    )
