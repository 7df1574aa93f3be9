"""The capacity of one step: items recovered from the population gradient, against `d`."""

from memsolve.engine import Fit, Grid
from memsolve.study.one_step.base import Results, capacity_exponent, capacity_points, laws
from memsolve.study.one_step.counts import CountStudy
from memsolve.study.one_step.points import CapacityPoint


class CapacityStudy(CountStudy[CapacityPoint]):
    """Exponent in `d` of the number of items recovered, for every optimizer and alpha."""

    name = "capacity"
    question = "How many items does one step on the population gradient recover, as d grows?"
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


capacity = CapacityStudy()
