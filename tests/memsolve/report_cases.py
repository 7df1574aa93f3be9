"""Made-up finished studies with any number of optimizers, to test reports."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from memsolve import theory
from memsolve.engine import Fit, Point, Summary
from memsolve.engine.results.estimate import Estimate
from memsolve.engine.study import AnyStudy
from memsolve.study import (
    anisotropy,
    capacity,
    critical_batch,
    dynamics,
    leaderboard,
    noise_scale,
    precision,
    rates,
    saturation,
    spectral_powers,
)
from memsolve.study.critical_batch.noise_scale import NoisePoint
from memsolve.study.critical_batch.point import BatchScalingPoint
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.tracks import RANKED, marks_of
from memsolve.study.leaderboard.tracks import problems as problems_of
from memsolve.study.one_step.points import (
    AnisotropyPoint,
    CapacityPoint,
    PrecisionPoint,
    SaturationPoint,
    SpectralPoint,
)
from memsolve.study.rates.point import RatesPoint
from memsolve.study.training.point import DynamicsPoint
from memsolve.training import Schedule

DIMS = 32, 64, 128
STEPS = 40
BATCHES = [4**power for power in range(8)]
LABELS = (
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
    """Labels as users give them: short ones, paths, and long ones with settings."""
    invented = [f"pytorch_optimizer.Number{index}:lr=0.01" for index in range(count)]
    return [*LABELS, *invented][:count]


def study(name: str, count: int) -> tuple[AnyStudy, Summary[Any]]:
    """A study of that name and its summary."""
    study, point = STUDIES[name]
    law = None if name == "critical-batch" else theory.Law(1.3, "published")
    fits: list[Fit[Any]] = [
        Fit(
            label,
            1.5,
            "plateau",
            interval(1 + 1.3**-index),
            law,
            [point(dim, recovered_by(index, dim)) for dim in DIMS],
        )
        for index, label in enumerate(names(count))
    ]
    environment: dict[str, str | int] = {"memsolve": "0", "device": "a CPU of the tests"}
    return study, Summary(name, f"memsolve {name} --seeds 2", environment, fits)


def recovered_by(index: int, dim: int) -> float:
    """Items recovered by the optimizer of an index: a little fewer than by the one before it."""
    return 0.3 * math.pow(dim, 1 + 1.3 ** -(index + 1)) / (1 + index / 30)


def interval(value: float) -> Estimate:
    return Estimate(value, 0.9 * value, 1.1 * value)


def capacity_point(dim: int, mean: float) -> CapacityPoint:
    recovered = [round(0.9 * mean), round(1.1 * mean)]
    return CapacityPoint(dim, 64 * dim, recovered, recovered)


def precision_point(dim: int, mean: float) -> PrecisionPoint:
    share = min(1, mean / dim)
    counts = [round(mean)]
    return PrecisionPoint(dim, 64 * dim, counts, counts, share, 0.9 * share, 1.1 * share)


def spectral_point(dim: int, mean: float) -> SpectralPoint:
    return SpectralPoint(**vars(capacity_point(dim, mean)), power=None)


def anisotropy_point(dim: int, mean: float) -> AnisotropyPoint:
    shares = [1 / (1 + kappa) for kappa in (0.0, 0.6, 1.2)]
    recovered = [[round(0.9 * share * mean), round(1.1 * share * mean)] for share in shares]
    return AnisotropyPoint(dim, 64 * dim, [0.0, 0.6, 1.2], recovered, recovered, shares)


def saturation_point(dim: int, mean: float) -> SaturationPoint:
    distinct = [float(batch) ** 0.7 for batch in BATCHES]
    recovered = [[min(mean, items), min(1.1 * mean, items)] for items in distinct]
    value = mean ** (1 / 0.7)
    return SaturationPoint(
        dim, value, 0.8 * value, 1.2 * value, "", 1.0, mean, mean, BATCHES, distinct, recovered
    )


def dynamics_point(dim: int, mean: float) -> DynamicsPoint:
    steps = np.arange(1, STEPS + 1)
    curve = mean * (1 - np.exp(-steps / 10))
    recovered = [[round(0.9 * count), round(1.1 * count)] for count in curve]
    constant: Schedule = "constant"
    geometric: Schedule = "geometric"
    return DynamicsPoint(
        dim=dim,
        num_items=64 * dim,
        limit=theory.limit(dim, 64 * dim),
        schedule="constant",
        lr=0.1,
        ratio=1.0,
        edges=["smallest learning rate"] * (dim == 32),
        seconds=0.001,
        recovered=recovered,
        top_rank=recovered,
        loss=[[8 / (1 + mean * step / 1000)] * 2 for step in steps],
        best_recovered=[1.2 * count for count in curve],
        marks=[1, 2, 4, 8, 16, 32, 40],
        margins=[
            [-9.0, -4.0, mean / 100 * mark - 3, 2.0, 4.0] for mark in (1, 2, 4, 8, 16, 32, 40)
        ],
        trial_schedules=[constant] * 5 + [geometric] * 5,
        trial_lrs=[4.0**power for power in range(5)] * 2,
        trial_ratios=[1.0] * 5 + [0.9, 0.95, 1.0, 1.05, 1.1],
        trial_recovered=[
            mean * share for share in (0.2, 0.6, 1, 0.7, 0.3, 0.1, 0.5, 0.8, 0.9, 0.2)
        ],
    )


def leaderboard_point(dim: int, mean: float) -> LeaderboardPoint:
    """Fewer items after one step than after several; memories have an effect on all of them."""
    problems = problems_of(RANKED, [1.5], [dim])
    levels = [mean * (0.7 if problem.steps == 1 else 1.0) for problem in problems]
    generator = np.random.default_rng(dim)
    memories = generator.normal(1, 0.05, 3)
    recovered = [
        [
            round(level * memory * noise)
            for memory, noise in zip(memories, generator.normal(1, 0.02, 3), strict=True)
        ]
        for level in levels
    ]
    count = len(problems)
    constant: Schedule = "constant"
    return LeaderboardPoint(
        dim=dim,
        seeds=[2, 3, 4],
        tracks=[problem.track for problem in problems],
        num_items=[problem.num_items for problem in problems],
        batch_sizes=[problem.batch_size for problem in problems],
        steps=[problem.steps for problem in problems],
        schedules=[constant] * count,
        lrs=[1.0] * count,
        ratios=[1.0] * count,
        momenta=[None] * count,
        at_edge=[dim == 32] * count,
        candidates=[24] * count,
        recovered=recovered,
        loss=[[2.0] * 3] * count,
        diverged=[[False] * 3] * count,
        failed=[[False] * 3] * count,
        curves=[
            [level * step / problem.steps for step in marks_of(problem.steps)]
            for level, problem in zip(levels, problems, strict=True)
        ],
        seconds=[1.0] * count,
        state=2.0,
        core_seconds=60.0,
    )


def noise_point(dim: int, mean: float) -> NoisePoint:
    scales = [[0.9 * scale, 1.1 * scale] for scale in (4.0, 0.5 * dim, mean**1.5, 1.4 * mean**1.5)]
    recovered = [round(0.9 * mean), round(1.1 * mean)]
    ratios = [interval(sum(scale) / 2 / mean) for scale in scales]
    return NoisePoint(dim, 64 * dim, recovered, interval(mean), scales, ratios)


def batch_scaling_point(dim: int, mean: float) -> BatchScalingPoint:
    steps = [math.ceil(4 * (1 + mean / batch)) for batch in BATCHES] + [4]
    estimate = interval(mean)
    return BatchScalingPoint(
        dim=dim,
        target=mean,
        horizon=100,
        batch_sizes=[*BATCHES, None],
        lrs=[0.1] * len(steps),
        at_edge=[False] * len(steps),
        steps=[[count if count < 100 else None] * 2 for count in steps],
        floor=4.0,
        slope=mean,
        misfit=1.1,
        critical=(
            estimate
            if dim > 32
            else Estimate(None, note="not identified: no batch size reached the target")
        ),
        overhead=interval(mean / 2),
        noise_at_zero=estimate,
        noise_at_target=estimate,
        noise_of_batches=estimate,
    )


def rates_point(dim: int, mean: float) -> RatesPoint:
    recovered = [[share * mean for share in shares] for shares in ((0.9, 1.1), (0.5, 0.6))]
    return RatesPoint(
        dim, 64 * dim, "exact", 1, [0.1, 0.2], [0.7, 0.8], recovered, ["largest ratio"]
    )


STUDIES: dict[str, tuple[AnyStudy, Callable[[int, float], Point]]] = {
    "capacity": (capacity, capacity_point),
    "saturation": (saturation, saturation_point),
    "precision": (precision, precision_point),
    "spectral-powers": (spectral_powers, spectral_point),
    "anisotropy": (anisotropy, anisotropy_point),
    "dynamics": (dynamics, dynamics_point),
    "critical-batch": (critical_batch, batch_scaling_point),
    "noise-scale": (noise_scale, noise_point),
    "leaderboard": (leaderboard, leaderboard_point),
    "rates": (rates, rates_point),
}


def board_fit(name: str, alpha: float, recovered: list[list[int]]) -> Fit[LeaderboardPoint]:
    """A fit with the counts after 1 and 10 steps, by seed."""
    point = leaderboard_point(8, 6.0)
    lists: dict[str, Any] = {
        name: [entry[:2] for entry in getattr(point, name)[:2]]
        if axes == "h S"
        else getattr(point, name)[:2]
        for name, axes in point.axes.items()
    }
    point = replace(point, **(lists | {"recovered": recovered}))
    return Fit(name, alpha, "recovered", Estimate(1.0), None, [point])
