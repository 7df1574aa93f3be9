"""The point of `damping`: the largest damping at one `d`, on the population and on batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve import theory
from memsolve.checks import check_axes
from memsolve.engine import Point
from memsolve.engine.results.estimate import POSITIVE, Estimate, Floats, jackknife
from memsolve.study.one_step.damping_threshold import FEWEST_SIZES, Threshold, threshold_exponent


@dataclass(frozen=True)
class BatchDampings:
    """Batches of every size at one `d`.

    Attributes:
        sizes: (K,) batch sizes, increasing.
        dampings: (K,) the largest damping at each, relative.
        undamped: (K,) items recovered by the exact polar factor, mean over seeds.
        following: (K,) items recovered with the damping `c max(d^-alpha, 1/B)`, mean over seeds.
        exponent: of the largest damping in `B`, over batch sizes from `d` to `d^alpha`.
        overshoot: the largest of `undamped`, relative to the count on the population.
        following_overshoot: the largest of `following`, likewise relative to that count with the
            damping of the population.
    """

    axes: ClassVar[Mapping[str, str]] = {
        "sizes": "K",
        "dampings": "K",
        "undamped": "K",
        "following": "K",
    }

    sizes: list[int]
    dampings: list[Estimate]
    undamped: list[float]
    following: list[float]
    exponent: Estimate
    overshoot: Estimate
    following_overshoot: Estimate


@dataclass(frozen=True)
class DampingPoint(Point):
    """The largest damping at one `d`.

    Attributes:
        num_items: number of facts `N`.
        damping: the largest damping on the population, relative to the largest singular value.
        constant: `c = damping / d^-alpha`.
        octaves: (L,) decreasing; a damping is `2^octave` times the largest singular value.
        recovered: (L, S) counts on the population, by seed.
        undamped: (S,) counts of the exact polar factor, by seed.
        batches: None in a study of the population alone.
    """

    axes: ClassVar = {"octaves": "L", "recovered": "L S", "undamped": "S"}

    num_items: int
    damping: Estimate
    constant: float | None
    octaves: list[int]
    recovered: list[list[float]]
    undamped: list[float]
    batches: BatchDampings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (batches := self.batches) is not None:
            check_axes(
                {name: (axes, getattr(batches, name)) for name, axes in batches.axes.items()}
            )


def damping_point(
    alpha: float, dim: int, num_items: int, thresholds: Mapping[int | None, Threshold]
) -> DampingPoint:
    """The point of thresholds by batch size; None is the population."""
    population = thresholds[None]
    damping = population.estimate()
    batches = {size: each for size, each in thresholds.items() if size is not None}
    counts = population.counts
    return DampingPoint(
        dim,
        num_items,
        damping,
        None if damping.value is None else damping.value / theory.largest_damping(alpha, dim),
        population.octaves.tolist(),
        counts[:, :-1].T.tolist(),
        counts[:, -1].tolist(),
        _batch_dampings(alpha, dim, population, batches) if batches else None,
    )


def _batch_dampings(
    alpha: float, dim: int, population: Threshold, batches: Mapping[int, Threshold]
) -> BatchDampings:
    """The thresholds of batches, and the counts with a damping that follows `B`."""
    sizes = sorted(batches)
    thresholds = [population, *(batches[size] for size in sizes)]
    law = [theory.largest_damping(alpha, dim, size) for size in (None, *sizes)]

    def undamped(draws: list[Floats]) -> Floats:
        return np.array([draw[:, :, -1].mean(1) for draw in draws])

    def following(draws: list[Floats]) -> Floats:
        constant = population(draws[0]) / law[0]
        columns = zip(thresholds, draws, law, strict=True)
        return np.array([each.recovered(draw, constant * at) for each, draw, at in columns])

    def overshoot(count: Callable[[list[Floats]], Floats]) -> Estimate:
        samples = [each.counts for each in thresholds]

        def ratio(draws: list[Floats]) -> Floats:
            counts = count(draws)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(counts[1:].max(0) / counts[0])

        return jackknife(samples, ratio, POSITIVE)

    every = [each.counts[None] for each in thresholds]
    rising = [size for size in sizes if dim <= size < dim**alpha]
    reason = f"not identified: fewer than {FEWEST_SIZES} batch sizes between d and d^alpha"
    return BatchDampings(
        sizes,
        [batches[size].estimate() for size in sizes],
        undamped(every)[1:, 0].tolist(),
        following(every)[1:, 0].tolist(),
        threshold_exponent(rising, [batches[size] for size in rising], FEWEST_SIZES, reason),
        overshoot(undamped),
        overshoot(following),
    )
