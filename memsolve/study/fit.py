"""Exponents and saturation points with bootstrap intervals over seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the estimate from all seeds.
        low: lower end of the 95% percentile bootstrap interval over seeds; None with one seed,
            or where the estimate is not identified.
        high: its upper end, likewise.
        note: why a number is missing, in a few words; empty otherwise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


def bootstrap(samples: Sequence[Floats], statistic: Callable[[list[Floats]], Floats]) -> Estimate:
    """Percentile bootstrap, each group of seeds resampled by itself.

    Few seeds make a percentile interval somewhat too short (five cover about 85 to 90%).

    Args:
        samples: one array (S, ...) a group, seeds first.
        statistic: takes the resampled groups, each (R, S, ...), and gives (R,) values; NaN
            where it has none.
    """
    point = float(statistic([group[None] for group in samples])[0])
    if not np.isfinite(point):
        return Estimate(None, note="not identified")
    if min(len(group) for group in samples) < 2:
        return Estimate(point, note="one seed, no interval")
    generator = np.random.default_rng(0)
    draws = [
        group[generator.integers(len(group), size=(RESAMPLES, len(group)))] for group in samples
    ]
    values = statistic(draws)
    if not np.isfinite(values).all():
        return Estimate(point, note="no interval: some resamples have no estimate")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(point, float(low), float(high))


def power_law_exponent(
    dims: Sequence[int], samples: Sequence[Floats], values: Sequence[Callable[[Floats], Floats]]
) -> Estimate:
    """Slope of `log value` against `log d` by least squares.

    Args:
        dims: the dimensions `d`, at least two for a slope.
        samples: for each `d`, an array (S, ...) of what its seeds measured.
        values: for each `d`, the quantity: (R, S, ...) resampled seeds to (R,).
    """
    if len(dims) < 2:
        return Estimate(None, note="one dimension, no slope")
    x = np.log(dims) - np.mean(np.log(dims))

    def slope(draws: list[Floats]) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log([value(draw) for value, draw in zip(values, draws, strict=True)])
            return np.asarray(x @ y / (x @ x))

    return bootstrap(samples, slope)
