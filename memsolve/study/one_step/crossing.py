"""Where the rise and the plateau of recovered items against batch size cross."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from memsolve import theory
from memsolve.engine import Point
from memsolve.engine.results.estimate import (
    POSITIVE,
    Estimate,
    Floats,
    jackknife,
    require_identified,
)
from memsolve.problem import power_law

EDGE = 4.0
"""Two octaves: how far inside the grid of batch sizes what is identified must lie."""


@dataclass(frozen=True)
class SaturationPoint(Point):
    """What batches of every size have stored at one `d`.

    Attributes:
        value: the saturation batch size, None where it is not identified.
        low, high: ends of its 95% interval; None where there is none.
        note: why a number is missing; empty otherwise.
        rise: share of its distinct items that a small batch recovers.
        plateau: items recovered of the population, mean over seeds.
        peak: the largest mean count of a batch size.
        batch_sizes: (K,), increasing.
        distinct: (K,) expected number of distinct items.
        recovered: (K, S) counts, by batch size and seed.
    """

    axes: ClassVar = {"batch_sizes": "K", "distinct": "K", "recovered": "K S"}

    value: float | None
    low: float | None
    high: float | None
    note: str
    rise: float
    plateau: float
    peak: float
    batch_sizes: list[int]
    distinct: list[float]
    recovered: list[list[float]]

    @property
    def estimate(self) -> Estimate:
        """The saturation batch size with its interval."""
        return Estimate(self.value, self.low, self.high, self.note)


class Crossing:
    """The saturation batch size of one memory size.

    With `D(B)` the expected number of distinct items in a batch, an optimizer recovers about
    `rise * D(B)` items from a small batch and `plateau` items from the population gradient.
    `D` grows as `B^(1/alpha)`; taken exactly, it also holds for the few items of an SGD, where
    the power is not yet reached. The saturation batch size `B*` solves `rise * D(B*) = plateau`.

    Args:
        alpha: exponent of the frequencies.
        num_items: `N`.
        batch_sizes: the grid, increasing.
    """

    def __init__(self, alpha: float, num_items: int, batch_sizes: Sequence[int]) -> None:
        frequencies = power_law(num_items, alpha)
        first, last = np.log2(batch_sizes[0]), np.log2(batch_sizes[-1])
        self.batch_sizes = np.array(batch_sizes, dtype=float)
        self.fine = np.logspace(first, last, 1 + int(8 * (last - first)), base=2)
        self.distinct, self.distinct_fine = (
            theory.expected_distinct_items(frequencies, torch.from_numpy(sizes)).numpy()
            for sizes in (self.batch_sizes, self.fine)
        )

    def asymptotes(self, counts: Floats) -> tuple[Floats, Floats]:
        """`(rise, plateau)`, each (R,), of counts (R, S, K + 1), the population last.

        The rise is fitted where a batch holds at most half as many items as the plateau.
        """
        mean = counts.mean(1)
        plateau = mean[:, -1]
        rising = self.distinct <= np.maximum(plateau[:, None] / 2, self.distinct[0])
        rise = (rising * mean[:, :-1]).sum(1) / (rising * self.distinct).sum(1)
        return rise, plateau

    def __call__(self, counts: Floats) -> Floats:
        """`B*` (R,) of counts (R, S, K + 1); NaN where it lies outside the grid."""
        rise, plateau = self.asymptotes(counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            level = np.log(plateau / rise)
        logs = np.log(self.distinct_fine), np.log(self.fine)
        crossing: Floats = np.exp(np.interp(level, *logs, left=np.nan, right=np.nan))
        return crossing

    def point(self, dim: int, counts: Floats) -> SaturationPoint:
        """What the report shows of a memory of dimension `dim`, from its counts (S, K + 1)."""
        found = jackknife([counts], lambda draws: self(draws[0]), POSITIVE)
        first, last = self.batch_sizes[0], self.batch_sizes[-1]
        reason = "no crossing inside the grid of batch sizes"
        estimate = self._inside(require_identified(found, first, last, reason))
        rise, plateau = self.asymptotes(counts[None])
        return SaturationPoint(
            dim=dim,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            note=estimate.note,
            rise=float(rise[0]),
            plateau=float(plateau[0]),
            peak=float(counts[:, :-1].mean(0).max()),
            batch_sizes=self.batch_sizes.astype(int).tolist(),
            distinct=self.distinct.tolist(),
            recovered=counts[:, :-1].T.tolist(),
        )

    def _inside(self, estimate: Estimate) -> Estimate:
        if estimate.value is None:
            return estimate
        if not EDGE * self.batch_sizes[0] <= estimate.value <= self.batch_sizes[-1] / EDGE:
            note = f"not identified: {estimate.value:.3g} is within two octaves of the edge"
            return Estimate(None, note=note)
        return estimate
