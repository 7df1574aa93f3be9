"""The capacity of one step: items recovered from the population gradient, against `d`."""

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine import Fit, Grid, Summary
from memsolve.report.drawing import ErrorBar
from memsolve.report.formatting import format_count
from memsolve.report.power_law import power_law_figure
from memsolve.study.one_step.base import (
    OneStepStudy,
    Results,
    capacity_exponent,
    capacity_points,
    laws,
)
from memsolve.study.one_step.points import CapacityPoint


class CapacityStudy(OneStepStudy[CapacityPoint]):
    """Exponent in `d` of the number of items recovered, for every optimizer and alpha."""

    name = "capacity"
    question = "How many items does one step on the population gradient recover, as d grows?"
    quantity = "recovered items"
    definition = (
        "Items whose own logit is the largest after one step on the population gradient from "
        "W = 0; mean over seeds."
    )
    point = CapacityPoint

    def fits(self, grid: Grid, results: Results) -> list[Fit[CapacityPoint]]:
        """The exponent, and the counts of every seed at each `d`."""
        law = laws(grid, "recovered")

        def fit(optimizer: str, alpha: float) -> Fit[CapacityPoint]:
            points = capacity_points(grid, results, optimizer, alpha)
            slope = capacity_exponent(grid, points)
            return Fit(optimizer, alpha, "recovered", slope, law[optimizer, alpha], points)

        return [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]

    def value(self, point: CapacityPoint) -> str:
        """Items recovered."""
        return format_count(point.mean)

    def score(self, point: CapacityPoint) -> float:
        """Items recovered."""
        return point.mean

    def detail(self, point: CapacityPoint) -> str:
        """Items recovered, and the highest recovered rank."""
        return f"{self.value(point)} (99% of the top {np.mean(point.top_rank):.0f})"

    def figures(self, summary: Summary[CapacityPoint]) -> dict[str, Figure]:
        """Items recovered against `d`; bars are the range over seeds."""

        def bar(point: CapacityPoint) -> ErrorBar:
            return point.mean, min(point.recovered), max(point.recovered)

        bars = "mean and range over seeds"
        return {"capacity-against-d": power_law_figure(summary, self.quantity, bar, bars)}


capacity = CapacityStudy()
