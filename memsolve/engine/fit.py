"""Exponents and saturation points with bootstrap intervals over seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95

FEW = 10
"""Counts below it are too coarse for a slope."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the estimate from all seeds.
        low: lower end of the 95% bootstrap interval over seeds; None with one seed,
            or where the estimate is not identified.
        high: its upper end, likewise.
        note: why a number is missing, in a few words; empty otherwise.
        doubts: why the interval is to be doubted, likewise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    doubts: str = ""

    def __str__(self) -> str:
        """`1.36 [1.33, 1.39]`, or why there is no number."""
        if self.value is None:
            return self.note
        if self.low is None or self.high is None:
            return f"{self.value:.2f} ({self.note})"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def told(self) -> str:
        """As text, with what there is to doubt: `1.36 [1.33, 1.39], two seeds`."""
        return f"{self}, {self.doubts}" if self.doubts else str(self)

    @property
    def bar(self) -> tuple[float, float, float] | None:
        """Value and both ends, the value itself where there is no interval; None without value."""
        if self.value is None:
            return None
        low, high = (self.value if end is None else end for end in (self.low, self.high))
        return self.value, low, high


def bootstrap(samples: Sequence[Floats], statistic: Callable[[list[Floats]], Floats]) -> Estimate:
    """Expanded percentile bootstrap, each group of seeds resampled by itself.

    With few seeds the plain percentile interval is too short: resampling `S` seeds understates
    their variance by `(S - 1) / S`, and a normal quantile stands where Student's belongs. Both are
    mended in the level of the percentiles (Hesterberg 2015, *What Teachers Should Know About the
    Bootstrap*, section 3.3).

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
    seeds = min(len(group) for group in samples)
    quantile = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * np.sqrt(seeds / (seeds - 1))
    low, high = np.quantile(values, stats.norm.cdf([-quantile, quantile]))
    return Estimate(point, float(low), float(high))


def power_law_exponent(
    dims: Sequence[int], samples: Sequence[Floats], values: Sequence[Callable[[Floats], Floats]]
) -> Estimate:
    """Slope of `log value` against `log d` by least squares.

    A grid too small for it is told beside it: two dimensions have no curvature to show, two
    seeds hardly a spread, and small counts come in whole numbers.

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

    found = bootstrap(samples, slope)
    if found.value is None:
        return found
    least = min(float(value(group[None])[0]) for value, group in zip(values, samples, strict=True))
    doubts = [
        *["two dimensions"] * (len(dims) == 2),
        *["two seeds"] * (min(map(len, samples)) == 2),
        *[f"values below {FEW}"] * (least < FEW),
    ]
    return replace(found, doubts=", ".join(doubts))
