"""How accurate an orthogonalisation must be: the capacity of inexact Muons.

The gradient's singular values span many orders of magnitude, because the frequencies do. A Muon
that leaves the small ones small does not store the facts in their directions.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from memsolve.engine import Fit, Grid, Summary, TableCell
from memsolve.engine.results.estimate import COUNT, jackknife
from memsolve.study.one_step.base import (
    OneStepStudy,
    Results,
    capacity_exponent,
    capacity_points,
    laws,
)
from memsolve.study.one_step.points import CapacityPoint, PrecisionPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXACT = "muon:backend=reference"
"""The baseline: the polar factor by a singular value decomposition."""

VARIANTS = (
    EXACT,
    "muon",
    "muon:backend=torch",  # the default schedule, which is not the default on a CPU
    *(f"muon:schedule=muon:steps={steps}" for steps in (5, 8, 12)),
    "muon:schedule=muon:steps=5:dtype=bfloat16",
    *(f"muon:schedule=polar-express:steps={steps}" for steps in (5, 8)),
    "muon:schedule=polar-express:steps=8:dtype=bfloat16",
    *(f"muon:lower={lower}" for lower in ("1e-2", "1e-3", "1e-4", "1e-6")),
    *(f"muon:relative_damping={damping}" for damping in ("1e-1", "1e-2", "1e-3", "1e-4", "1e-6")),
    *(f"muon:dtype={dtype}" for dtype in ("float32", "float16", "bfloat16")),
    *(f"{EXACT}:gradient_dtype={dtype}" for dtype in ("float32", "float16", "bfloat16")),
)
"""Variants of schedule and steps, damping, and precision of the sign and of the gradient."""


class PrecisionStudy(OneStepStudy[PrecisionPoint]):
    """Capacity of every optimizer, as a share of the exact polar factor's."""

    name = "precision"
    question = "How much capacity does Muon lose by an inexact schedule, damping or dtype?"
    quantity = "share of the exact polar factor's capacity"
    legend = "?: the exact polar factor recovers nothing, so there is no share"
    definition = (
        "Items recovered by one step of an inexact Muon on the population gradient, divided by "
        "those of the exact polar factor on the same seeds. The gradient's singular values span "
        "many orders of magnitude; facts whose singular values stay small are not recovered."
    )
    grid = Grid(VARIANTS, dims=(256,))
    point = PrecisionPoint

    def complete(self, grid: Grid) -> Grid:
        """The grid with `EXACT` among its optimizers."""
        if EXACT in grid.labels:
            return grid
        return replace(grid, optimizers={EXACT: EXACT} | grid.choices, sweep=())

    def fits(self, grid: Grid, results: Results) -> list[Fit[PrecisionPoint]]:
        """The exponent of the number recovered, and the share at each `d`."""
        law = laws(grid, "recovered")

        def fit(optimizer: str, alpha: float) -> Fit[PrecisionPoint]:
            inexact = capacity_points(grid, results, optimizer, alpha)
            exact = capacity_points(grid, results, EXACT, alpha)
            points = [precision_point(*pair) for pair in zip(inexact, exact, strict=True)]
            slope = capacity_exponent(grid, inexact)
            return Fit(optimizer, alpha, "recovered", slope, law[optimizer, alpha], points)

        return [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]

    def columns(self, fit: Fit[PrecisionPoint]) -> dict[str, TableCell]:
        """None: this study compares shares, not exponents."""
        return {}

    def value(self, point: PrecisionPoint) -> str:
        """The share in percent."""
        return "?" if point.share is None else f"{point.share:.0%}"

    def score(self, point: PrecisionPoint) -> float | None:
        """The share."""
        return point.share

    def detail(self, point: PrecisionPoint) -> str:
        """The share with its interval."""
        text = f"{self.value(point)} of the exact one"
        if point.share_low is not None:
            text += f" [{point.share_low:.0%}, {point.share_high:.0%}]"
        return text

    def figures(self, summary: Summary[PrecisionPoint]) -> dict[str, "Figure"]:
        """The share of every optimizer at each `d`."""
        from memsolve.study.one_step.figures import shares_of_exact

        return {"precision": shares_of_exact(summary)}


def precision_point(point: CapacityPoint, exact: CapacityPoint) -> PrecisionPoint:
    """Add the share of the exact count, paired by seed."""
    pairs = np.array([point.recovered, exact.recovered], dtype=float).T
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = jackknife([pairs], lambda draws: np.divide(*draws[0].sum(1).T), COUNT)
    return PrecisionPoint(
        **vars(point), share=estimate.value, share_low=estimate.low, share_high=estimate.high
    )


precision = PrecisionStudy()
