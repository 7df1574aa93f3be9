"""The saturation batch size: where the rise and the plateau of recovered items cross."""

from collections.abc import Sequence

import numpy as np
import torch

from memsolve import theory
from memsolve.engine.results.estimate import (
    POSITIVE,
    Estimate,
    Floats,
    jackknife,
    require_identified,
)
from memsolve.frequencies import power_law
from memsolve.study.one_step.points import SaturationPoint

EDGE_FACTOR = 4.0
"""An estimate this close to either end of the batch sizes is not identified: two octaves."""


class Crossing:
    """The saturation batch size of one memory size.

    With `D(B)` the expected number of distinct items in a batch, an optimizer recovers about
    `rise * D(B)` items from a small batch and `plateau` items from the population gradient.
    `D` grows as `B^(1/alpha)` for large `B`; the exact `D` also holds for the few items that SGD
    recovers. The saturation batch size `B*` solves `rise * D(B*) = plateau`.

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

        The rise is fitted to batches with at most half as many distinct items as the plateau.
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
        """The point of a memory of dimension `dim`, from its counts (S, K + 1)."""
        crossing = jackknife([counts], lambda draws: self(draws[0]), POSITIVE)
        first, last = self.batch_sizes[0], self.batch_sizes[-1]
        reason = "no crossing inside the grid of batch sizes"
        estimate = self._unless_near_edge(require_identified(crossing, first, last, reason))
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

    def _unless_near_edge(self, estimate: Estimate) -> Estimate:
        if estimate.value is None:
            return estimate
        if (
            not EDGE_FACTOR * self.batch_sizes[0]
            <= estimate.value
            <= self.batch_sizes[-1] / EDGE_FACTOR
        ):
            note = f"not identified: {estimate.value:.3g} is within two octaves of the edge"
            return Estimate(None, note=note)
        return estimate
