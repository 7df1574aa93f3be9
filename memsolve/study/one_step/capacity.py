"""How many facts one step on the population gradient stores, against `d`."""

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine import Fit, Grid, Summary
from memsolve.report.formatting import format_count
from memsolve.report.power_law import power_law_figure
from memsolve.study.one_step.one_step import CapacityPoint, OneStep, Results, exponent, laws, points


class Capacity(OneStep[CapacityPoint]):
    """Exponent in `d` of the number recovered, for every optimizer and alpha."""

    name = "capacity"
    question = "Items stored by one step on the population gradient, against d."
    quantity = "recovered items"
    definition = (
        "Items whose own logit is the largest after one step on the population gradient from "
        "W = 0; mean over seeds."
    )
    point = CapacityPoint

    def fits(self, grid: Grid, results: Results) -> list[Fit[CapacityPoint]]:
        """The exponent, with the counts of every seed at each `d`."""
        law = laws(grid, "recovered")

        def fit(optimizer: str, alpha: float) -> Fit[CapacityPoint]:
            measured = points(grid, results, optimizer, alpha)
            slope = exponent(grid, measured)
            return Fit(optimizer, alpha, "recovered", slope, law[optimizer, alpha], measured)

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
        """The number recovered against `d`; bars are the range over seeds."""

        def bar(point: CapacityPoint) -> tuple[float, float, float]:
            return point.mean, min(point.recovered), max(point.recovered)

        bars = "mean and range over seeds"
        return {"capacity-against-d": power_law_figure(summary, self.quantity, bar, bars)}


capacity = Capacity()
