"""The points of the one-step studies: what is reported at one `d`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve.engine import Point
from memsolve.engine.results.estimate import COUNT, Estimate, jackknife, mean


@dataclass(frozen=True)
class CapacityPoint(Point):
    """Items recovered at one `d`, by seed.

    Attributes:
        num_items: number of facts `N`.
        recovered: (S,) items recovered.
        top_rank: (S,) highest recovered rank.
    """

    axes: ClassVar = {"recovered": "S", "top_rank": "S"}

    num_items: int
    recovered: list[int]
    top_rank: list[int]

    @property
    def mean(self) -> float:
        """Items recovered, mean over seeds."""
        return float(np.mean(self.recovered))


@dataclass(frozen=True)
class PrecisionPoint(CapacityPoint):
    """A `CapacityPoint` relative to that of the exact polar factor.

    Attributes:
        share: of the items that the exact polar factor recovers; None where it recovers none.
        share_low, share_high: ends of its 95% interval; None where there is none.
    """

    share: float | None
    share_low: float | None
    share_high: float | None

    @property
    def estimate(self) -> Estimate:
        """The share with its interval."""
        return Estimate(self.share, self.share_low, self.share_high)


@dataclass(frozen=True)
class SpectralPoint(CapacityPoint):
    """A `CapacityPoint` of an optimizer that may be a power of the singular values.

    Attributes:
        power: the power; None for other optimizers.
    """

    power: float | None


@dataclass(frozen=True)
class SaturationPoint(Point):
    """Items recovered from batches of every size at one `d`.

    Attributes:
        value: the saturation batch size; None where it is not identified.
        low, high: ends of its 95% interval; None where there is none.
        note: why a number is missing; empty otherwise.
        rise: share of its distinct items that a small batch recovers.
        plateau: items recovered from the population gradient, mean over seeds.
        peak: the largest mean count over the batch sizes.
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


@dataclass(frozen=True)
class AnisotropyPoint(Point):
    """Items recovered at one `d` for inputs of every anisotropy.

    Attributes:
        num_items: number of facts `N`.
        kappas: (K,) exponents of the eigenvalues of the inputs' covariance, increasing from 0.
        recovered: (K, S) items recovered, by kappa and seed.
        top_rank: (K, S) highest recovered rank.
        law: (K,) predicted count, relative to kappa = 0; empty where there is no law.
    """

    axes: ClassVar = {"kappas": "K", "recovered": "K S", "top_rank": "K S", "law": "K?"}

    num_items: int
    kappas: list[float]
    recovered: list[list[int]]
    top_rank: list[list[int]]
    law: list[float]

    @property
    def counts(self) -> list[Estimate]:
        """(K,) items recovered, mean over seeds."""
        return [mean(seeds) for seeds in self.recovered]

    @property
    def share(self) -> Estimate:
        """The count at the largest kappa divided by that at 0, paired over seeds."""
        pairs = np.array([self.recovered[-1], self.recovered[0]], dtype=float).T
        with np.errstate(divide="ignore", invalid="ignore"):
            return jackknife([pairs], lambda draws: np.divide(*draws[0].sum(1).T), COUNT)
