"""The saturation batch size: where the items recovered from batches reach the plateau."""

from typing import TYPE_CHECKING

import numpy as np

from memsolve.engine import Fit, Grid, Summary
from memsolve.engine.results.estimate import Estimate, Floats, power_law_exponent
from memsolve.report.formatting import format_count
from memsolve.study.formatting import format_value
from memsolve.study.one_step.base import OneStepStudy, Results, laws, step_results
from memsolve.study.one_step.crossing import Crossing
from memsolve.study.one_step.points import SaturationPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SaturationStudy(OneStepStudy[SaturationPoint]):
    """Exponent in `d` of the saturation batch size, for every optimizer and alpha."""

    name = "saturation"
    question = "At which batch size does one step recover as many items as on the population?"
    quantity = "saturation batch size B*"
    legend = "?: not identified; the report says why"
    definition = (
        "The batch size at which two asymptotes cross. For small batches the number of items "
        "recovered by one step from W = 0 is proportional to the number of distinct items in the "
        "batch; for large batches it reaches the plateau of the population gradient. B* therefore "
        "depends on the capacity and on the share of their items that small batches recover. "
        "Around B* the count may exceed the plateau before it settles: the table gives the peak."
    )
    point = SaturationPoint

    def batch_sizes(self, grid: Grid, alpha: float, dim: int) -> list[int | None]:
        """The batch sizes of the grid, then the population."""
        return [*grid.batch_sizes_of(alpha, dim), None]

    def fits(self, grid: Grid, results: Results) -> list[Fit[SaturationPoint]]:
        """The exponent, and the crossing at each `d`."""
        law = laws(grid, "saturation_batch_size")

        def counts(optimizer: str, alpha: float, dim: int) -> Floats:
            """(S, K + 1): seeds by batch sizes, the population last."""
            columns = [
                [
                    result.recovered
                    for result in step_results(grid, results, optimizer, alpha, dim, size)
                ]
                for size in self.batch_sizes(grid, alpha, dim)
            ]
            return np.array(columns, dtype=float).T

        def fit(optimizer: str, alpha: float) -> Fit[SaturationPoint]:
            crossings = [
                Crossing(alpha, grid.items_of(dim), grid.batch_sizes_of(alpha, dim))
                for dim in grid.dims
            ]
            samples = [counts(optimizer, alpha, dim) for dim in grid.dims]
            points = [
                crossing.point(dim, sample)
                for dim, crossing, sample in zip(grid.dims, crossings, samples, strict=True)
            ]
            slope = power_law_exponent(grid.dims, samples, crossings)
            if missing := [str(point.dim) for point in points if point.value is None]:
                slope = Estimate(None, note=f"not identified at d = {', '.join(missing)}")
            theory = law[optimizer, alpha]
            return Fit(optimizer, alpha, "saturation_batch_size", slope, theory, points)

        return [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]

    def value(self, point: SaturationPoint) -> str:
        """The batch size."""
        return format_value(point.value)

    def score(self, point: SaturationPoint) -> float | None:
        """The batch size."""
        return point.value

    def detail(self, point: SaturationPoint) -> str:
        """The batch size with its interval, and the peak relative to the plateau."""
        if point.low is None or point.high is None:
            return point.note if point.value is None else self.value(point)
        crossing = f"{self.value(point)} [{format_count(point.low)}, {format_count(point.high)}]"
        return f"{crossing}, peak {point.peak / point.plateau:.2f} of the plateau"

    def figures(self, summary: Summary[SaturationPoint]) -> dict[str, "Figure"]:
        """Recovered items against the batch size, and the saturation batch size against `d`."""
        from memsolve.report.power_law import power_law_figure
        from memsolve.report.sweep_figure import point_bars, sweep_figures
        from memsolve.study.one_step.figures import saturation_curves

        return {
            "saturation-against-batch": saturation_curves(summary),
            "saturation-against-d": power_law_figure(
                summary,
                self.quantity,
                lambda point: point.estimate.bar,
                "estimate and 95% interval over seeds",
            ),
            **sweep_figures(
                self.name, self.quantity, point_bars(summary, lambda point: point.estimate.bar)
            ),
        }


saturation = SaturationStudy()
