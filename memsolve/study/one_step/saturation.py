"""The batch size at which what small batches recover reaches the population's, against `d`."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Fit, Grid, Summary
from memsolve.engine.results.estimate import Estimate, Floats, power_law_exponent
from memsolve.report.drawing import (
    add_legend,
    create_panels,
    dims,
    dims_legend,
    optimizer_titles,
    panel_size,
    shades,
)
from memsolve.report.formatting import format_count
from memsolve.report.power_law import power_law_figure
from memsolve.study.one_step.crossing import Crossing, SaturationPoint
from memsolve.study.one_step.one_step import OneStep, Results, counts, laws


class SaturationStudy(OneStep[SaturationPoint]):
    """Exponent in `d` of the saturation batch size, for every optimizer and alpha."""

    name = "saturation"
    question = "Batch size at which small batches' recall reaches the population's, against d."
    quantity = "saturation batch size B*"
    legend = "?: not identified; the report says why"
    definition = (
        "Batch size at which two asymptotes cross: what small batches recover, which grows like "
        "the number of distinct items they hold, and what the population gradient recovers. It "
        "follows from the capacity and from how nearly small batches are recovered whole. Around "
        "it the count may rise above the population's before it settles: the table gives the peak."
    )
    point = SaturationPoint

    def batch_sizes(self, grid: Grid, alpha: float, dim: int) -> list[int | None]:
        """Those of the grid, and the population last."""
        return [*grid.batch_sizes_of(alpha, dim), None]

    def fits(self, grid: Grid, results: Results) -> list[Fit[SaturationPoint]]:
        """The exponent, with the crossing at each `d`."""
        law = laws(grid, "saturation_batch_size")

        def samples(optimizer: str, alpha: float, dim: int) -> Floats:
            """(S, K + 1): seeds by batch sizes, the population last."""
            columns = [
                [found.recovered for found in counts(grid, results, optimizer, alpha, dim, size)]
                for size in self.batch_sizes(grid, alpha, dim)
            ]
            return np.array(columns, dtype=float).T

        def fit(optimizer: str, alpha: float) -> Fit[SaturationPoint]:
            crossings = [
                Crossing(alpha, grid.items_of(dim), grid.batch_sizes_of(alpha, dim))
                for dim in grid.dims
            ]
            measured = [samples(optimizer, alpha, dim) for dim in grid.dims]
            points = [
                crossing.point(dim, sample)
                for dim, crossing, sample in zip(grid.dims, crossings, measured, strict=True)
            ]
            slope = power_law_exponent(grid.dims, measured, crossings)
            if open_at := [str(point.dim) for point in points if point.value is None]:
                slope = Estimate(None, note=f"not identified at d = {', '.join(open_at)}")
            theory = law[optimizer, alpha]
            return Fit(optimizer, alpha, "saturation_batch_size", slope, theory, points)

        return [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]

    def value(self, point: SaturationPoint) -> str:
        """The batch size."""
        return "?" if point.value is None else format_count(point.value)

    def score(self, point: SaturationPoint) -> float | None:
        """The batch size."""
        return point.value

    def detail(self, point: SaturationPoint) -> str:
        """The batch size with its interval, and how far the count overshoots."""
        if point.low is None or point.high is None:
            return point.note if point.value is None else self.value(point)
        crossing = f"{self.value(point)} [{format_count(point.low)}, {format_count(point.high)}]"
        return f"{crossing}, peak {point.peak / point.plateau:.2f} of the plateau"

    def figures(self, summary: Summary[SaturationPoint]) -> dict[str, Figure]:
        """Recovered items against the batch size, and the saturation batch size against `d`."""
        return {
            "saturation-against-batch": _against_batch(summary),
            "saturation-against-d": power_law_figure(
                summary,
                self.quantity,
                lambda point: point.estimate.bar,
                "estimate and 95% interval over seeds",
            ),
        }


def _against_batch(summary: Summary[SaturationPoint]) -> Figure:
    """A panel an alpha and optimizer."""
    titles = optimizer_titles(
        summary, lambda points: f"B* = {', '.join(map(saturation.value, points))}"
    )
    labels = "batch size B", "recovered items"
    figure, found = create_panels(
        titles, size=panel_size(len(titles)), axes=labels, share=(True, True)
    )
    shade = shades(dims(summary))
    for fit in summary.fits:
        axes = found[fit.alpha, fit.optimizer]
        for point in fit.points:
            _saturating(axes, point, shade[point.dim])
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
    next(iter(found.values())).set_ylim(bottom=0.7)
    meanings = dims_legend(shade)
    meanings["mean over seeds"] = {"marker": "o", "ls": "", "ms": 3.5}
    meanings["of small batches, and of the population"] = {"ls": "--", "lw": 1}
    diamond = {"marker": "D", "ls": "", "mfc": "white", "mew": 1.5}
    add_legend(figure, meanings | {"B*, with its 95% interval over seeds": diamond})
    return figure


def _saturating(axes: Axes, point: SaturationPoint, color: Any) -> None:
    batch_sizes = np.array(point.batch_sizes, dtype=float)
    recovered = np.array(point.recovered).mean(1)
    rise = point.rise * np.array(point.distinct)
    below = rise < 3 * point.plateau
    axes.plot(batch_sizes, recovered, "o", ms=3.5, color=color, label=f"d = {point.dim}")
    axes.plot(batch_sizes[below], rise[below], "--", lw=1, color=color, alpha=0.7)
    across = axes.get_yaxis_transform()  # axhline asks all panels for their limits, each time
    axes.plot([0, 1], [point.plateau] * 2, "--", lw=1, color=color, alpha=0.7, transform=across)
    if (bar := point.estimate.bar) is not None:
        value, low, high = bar
        axes.errorbar(
            value,
            point.plateau,
            xerr=[[value - low], [high - value]],
            fmt="D",
            ms=7,
            mfc="white",
            mew=1.5,
            capsize=3,
            color=color,
            zorder=3,
        )


saturation = SaturationStudy()
