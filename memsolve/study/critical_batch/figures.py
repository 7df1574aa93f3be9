"""The figure of `critical-batch`: steps to the target against the batch size."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.report.drawing import (
    add_legend,
    create_panels,
    dims,
    dims_legend,
    draw_estimate,
    optimizer_titles,
    panel_size,
    shades,
)
from memsolve.study.critical_batch.batch_scaling import OVERHEAD
from memsolve.study.critical_batch.point import BatchScalingPoint
from memsolve.study.formatting import format_value


def steps_against_batch_size(summary: Summary[BatchScalingPoint]) -> Figure:
    """Steps to the target against the batch size: a panel for each alpha and optimizer."""
    titles = optimizer_titles(summary, _format_both)
    labels = "batch size B (to the right: population)", "steps to the target"
    figure, panel_of = create_panels(
        titles, size=panel_size(len(titles)), axes=labels, share=(True, True)
    )
    shade = shades(dims(summary))
    for fit in summary.fits:
        axes = panel_of[fit.alpha, fit.optimizer]
        for point in fit.points:
            _draw_scaling(axes, point, shade[point.dim])
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
    hollow = {"ls": "", "mfc": "white", "mew": 1.5}
    meanings = dims_legend(shade)
    meanings["mean over seeds"] = {"marker": "o", "ls": "", "ms": 4}
    meanings["population"] = {"marker": ">", "ls": ""}
    meanings["not reached: a lower bound"] = {"marker": "^", "ls": "", "mfc": "none"}
    meanings["S_min (1 + B_crit / B), where identified"] = {"lw": 1}
    meanings["linear scaling"] = {"ls": "--", "lw": 1}
    meanings["B_crit, 95% interval over seeds"] = {"marker": "D", **hollow}
    meanings["B_20%, 95% interval over seeds"] = {"marker": "s", **hollow}
    add_legend(figure, meanings)
    return figure


def _format_both(points: list[BatchScalingPoint]) -> str:
    """Both critical batch sizes at each `d`."""
    critical = ", ".join(format_value(point.critical.value) for point in points)
    overhead = ", ".join(format_value(point.overhead.value) for point in points)
    return f"B_crit = {critical}; B_20% = {overhead}"


def _draw_scaling(axes: Axes, point: BatchScalingPoint, color: Any) -> None:
    """Steps and, where identified, the curve with `B_crit` and linear scaling with `B_20%`."""
    finite = np.array(point.batch_sizes[:-1], dtype=float)
    sizes = np.append(finite, 8 * finite[-1])  # the last one is where the population is drawn
    mean, reached = np.array(point.mean), np.array(point.reached)
    label = f"d = {point.dim}"
    axes.plot(finite[reached[:-1]], mean[:-1][reached[:-1]], "o", ms=4, color=color, label=label)
    axes.plot(sizes[-1:][reached[-1:]], mean[-1:][reached[-1:]], ">", ms=6, color=color)
    axes.plot(sizes[~reached], mean[~reached], "^", ms=6, mfc="none", color=color)
    critical, overhead = point.critical.bar, point.overhead.bar
    if critical is not None and point.floor is not None and point.slope is not None:
        fine = np.geomspace(sizes[0], sizes[-1], 100)
        axes.plot(fine, point.floor * (1 + point.slope / fine), lw=1, color=color)
        draw_estimate(axes, critical, 2 * point.floor, "D", color)
    if overhead is not None:
        examples = np.where(reached[:-1], finite * mean[:-1], np.inf)
        value, *_ = overhead
        linear = np.array([finite[examples.argmin()], value])
        axes.plot(linear, examples.min() / linear, "--", lw=1, color=color)
        draw_estimate(axes, overhead, OVERHEAD * examples.min() / value, "s", color)
