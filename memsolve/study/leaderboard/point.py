"""The point of a leaderboard: one optimizer at one alpha and `d`, on each of their problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memsolve import theory
from memsolve.engine import Point
from memsolve.study.leaderboard.tracks import Problem
from memsolve.training import Schedule

COLLAPSED, LEAST_MEDIAN = 0.25, 4
"""A seed has collapsed if its count is below this share of a median over seeds of at least so many.

Smaller counts vary so much by chance.
"""


@dataclass(frozen=True)
class LeaderboardPoint(Point):
    """One optimizer at one alpha and `d`, on `H` problems, shown on `S` seeds.

    Attributes:
        seeds: (S,) on which no candidate was selected.
        tracks, num_items, batch_sizes, steps: (H,) of the problems, as in `tracks.Problem`.
        schedules, lrs, ratios, momenta: (H,) of the selected candidates; see
            `candidates.LeaderboardCandidate`.
        at_edge: (H,) whether a coordinate of the candidate is the smallest or largest tried.
        candidates: (H,) number of candidates that were tried; 1 where nothing was tuned.
        recovered: (H, S) items recovered after the last step.
        loss: (H, S) population loss after the last step, in nats; None where the weight is not
            finite. See `loss.population_loss`.
        diverged: (H, S) whether that loss is not below `ln N`, the loss of `W = 0`, or does not
            exist. The items of such a run count if its weight is finite.
        failed: (H, S) whether a step failed; such a run counts 0 items.
        curves: (H,) of lists: items after powers of two and the last step (`tracks.marks_of`), mean
            over seeds.
        seconds: (H,) of the steps of a run with their gradients, on this machine, alone; None
            where it was not alone.
        state: numbers in the optimizer's state per number in the weight; None without a state.
        core_seconds: processor time of all runs, with those of the tuning.
    """

    axes: ClassVar = {
        "seeds": "S",
        "tracks": "h",
        "num_items": "h",
        "batch_sizes": "h",
        "steps": "h",
        "schedules": "h",
        "lrs": "h",
        "ratios": "h",
        "momenta": "h",
        "at_edge": "h",
        "candidates": "h",
        "recovered": "h S",
        "loss": "h S",
        "diverged": "h S",
        "failed": "h S",
        "curves": "h",
        "seconds": "h",
    }

    seeds: list[int]
    tracks: list[str]
    num_items: list[int]
    batch_sizes: list[int | None]
    steps: list[int]
    schedules: list[Schedule]
    lrs: list[float | None]
    ratios: list[float]
    momenta: list[float | None]
    at_edge: list[bool]
    candidates: list[int]
    recovered: list[list[int]]
    loss: list[list[float | None]]
    diverged: list[list[bool]]
    failed: list[list[bool]]
    curves: list[list[float]]
    seconds: list[float | None]
    state: float | None
    core_seconds: float

    def problems(self, alpha: float) -> list[Problem]:
        """(H,) the problems; `alpha` is that of the fit."""
        columns = self.tracks, self.num_items, self.batch_sizes, self.steps
        return [
            Problem(track, alpha, self.dim, num_items, batch_size, steps)
            for track, num_items, batch_size, steps in zip(*columns, strict=True)
        ]

    @property
    def mean(self) -> list[float]:
        """(H,) items recovered, mean over seeds."""
        return [float(np.mean(seeds)) for seeds in self.recovered]

    @property
    def limits(self) -> list[float]:
        """(H,) about how many items any weight can store, `theory.limit`."""
        return [theory.limit(self.dim, num_items) for num_items in self.num_items]

    @property
    def collapsed(self) -> list[int]:
        """(H,) number of seeds that have collapsed, see `collapsed_seeds`."""
        return [collapsed_seeds(seeds) for seeds in self.recovered]

    @property
    def outcomes(self) -> list[list[str]]:
        """(H,) how many seeds have diverged, failed or collapsed, as text, where any has."""
        columns = map(sum, self.diverged), map(sum, self.failed), self.collapsed
        return [
            [
                f"{count} of {len(self.seeds)} {word}"
                for count, word in zip(counts, ("diverged", "failed", "collapsed"), strict=True)
                if count
            ]
            for counts in zip(*columns, strict=True)
        ]


def collapsed_seeds(recovered: Sequence[int]) -> int:
    """Number of seeds with less than a quarter of the median over seeds, if that is 4 or more."""
    median = float(np.median(recovered))
    return int(np.sum(np.array(recovered) < COLLAPSED * median)) if median >= LEAST_MEDIAN else 0
