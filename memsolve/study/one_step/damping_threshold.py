"""The largest damping that keeps most of the undamped count, and its exponents."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from memsolve.engine.results.estimate import POSITIVE, Estimate, Floats, jackknife
from memsolve.study.one_step.damping_curve import DampingCurve

KEPT = 0.9
"""Share of the undamped count that the largest damping keeps."""

FEWEST_SIZES = 3
"""Batch sizes that a slope needs."""


class Threshold:
    """The largest damping that keeps `KEPT` of the undamped count, of the mean curve over seeds.

    From strong damping to weak the count rises, passes the undamped one by a few percent and falls
    to it. The threshold is where it first reaches `KEPT` of the undamped count on this way, so no
    larger damping of the grid keeps as much. It is interpolated in the logarithm of the damping.

    Args:
        curves: of the seeds. A curve is continued by the counts at its ends, where it is flat, or
            far below the threshold.

    Attributes:
        octaves: (L,) decreasing, those of all seeds.
        counts: (S, L + 1) by seed, the undamped count last.
    """

    def __init__(self, curves: Sequence[DampingCurve]) -> None:
        first = max(curve.octaves[0] for curve in curves)
        last = min(curve.octaves[-1] for curve in curves)
        self.octaves = np.arange(first, last - 1, -1)
        self.counts = np.array(
            [
                [
                    *np.interp(-self.octaves, -np.array(curve.octaves), curve.recovered),
                    curve.undamped,
                ]
                for curve in curves
            ]
        )

    def __call__(self, counts: Floats) -> Floats:
        """The damping (R,), relative, of counts (R, S, L + 1); NaN where none loses so much."""
        mean = counts.mean(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = mean[:, :-1] / mean[:, -1:]
        rows, reached = np.arange(len(shares)), shares >= KEPT
        at = reached.argmax(1)
        before = np.maximum(at - 1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            rise = shares[rows, at] - shares[rows, before]
            part = (KEPT - shares[rows, before]) / rise
        octave = self.octaves[before] - part
        return np.where(reached.any(1) & (at > 0), np.exp2(octave), np.nan)

    def estimate(self) -> Estimate:
        """The damping with its interval."""
        estimate = jackknife([self.counts], lambda draws: self(draws[0]), POSITIVE)
        if estimate.value is not None:
            return estimate
        reason = f"SGD keeps {KEPT:.0%}" if self.counts[:, -1].any() else "nothing is recovered"
        return Estimate(None, note=f"not identified: {reason}")

    def recovered(self, counts: Floats, dampings: Floats) -> Floats:
        """Mean counts (R,) at relative dampings (R,), interpolated in their logarithms."""
        mean = counts.mean(1)[:, :-1]
        at = np.log2(dampings)
        return np.array(
            [np.interp(-octave, -self.octaves, row) for octave, row in zip(at, mean, strict=True)]
        )


def threshold_exponent(
    sizes: Sequence[int], thresholds: Sequence[Threshold], fewest: int, reason: str
) -> Estimate:
    """Slope of the logarithm of the threshold against that of a size, by least squares.

    Args:
        sizes: `d` or `B` of each threshold.
        thresholds: those that are not identified are left out, anew in each resample.
        fewest: thresholds that a slope needs.
        reason: why there is no slope, if there is none.
    """
    statistic = _slope(np.log(sizes), thresholds, fewest)
    estimate = (
        jackknife([threshold.counts for threshold in thresholds], statistic)
        if len(sizes) >= fewest
        else Estimate(None)
    )
    if estimate.value is None:
        return Estimate(None, note=reason)
    return replace(estimate, doubts="two dimensions") if len(sizes) == 2 else estimate


def _slope(
    logs: Floats, thresholds: Sequence[Threshold], fewest: int
) -> Callable[[list[Floats]], Floats]:
    """The statistic of `threshold_exponent`."""

    def slope(draws: list[Floats]) -> Floats:
        y = np.log([threshold(draw) for threshold, draw in zip(thresholds, draws, strict=True)])
        valid = np.isfinite(y)
        number = valid.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.where(valid, logs[:, None], 0)
            x = np.where(valid, x - x.sum(0) / number, 0)
            slopes = (x * np.where(valid, y, 0)).sum(0) / np.square(x).sum(0)
        return np.where(number >= fewest, slopes, np.nan)

    return slope
