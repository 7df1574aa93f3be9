"""The figure of a quantity that grows as a power of `d`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import ErrorBar
from memsolve.engine.results.summary import P
from memsolve.report.curves import label_panels, panel_height, panel_width
from memsolve.report.drawing import (
    CurveStyle,
    add_legend,
    alpha_titles,
    create_panels,
    dims,
    escape_mathtext,
    missing_legend,
    optimizers,
)
from memsolve.report.emphasis import optimizer_styles
from memsolve.report.names import shorten_names


def power_law_figure(
    summary: Summary[P], quantity: str, bar: Callable[[P], ErrorBar | None], bar_meaning: str
) -> Figure:
    """One panel for each alpha: a quantity against `d`, the fitted power law, and theory's slope.

    Args:
        summary: is drawn.
        quantity: title of the vertical axis.
        bar: value and error bar of a point, or None where it is not identified.
        bar_meaning: for the legend, as "mean and 95% interval over seeds".
    """
    names = shorten_names(optimizers(summary))
    styles = optimizer_styles(summary)
    labels = [f"{name}: 1.00" for name in names.values()]
    figure, panels = create_panels(
        alpha_titles(summary),
        size=(panel_width(labels, 3.2), panel_height(len(names), 4)),
        axes=("embedding dimension d", quantity),
    )
    drawn: list[Fit[P]] = []
    not_positive: list[str] = []
    unidentified: list[str] = []
    for alpha, axes in panels.items():
        for fit in (fit for fit in summary.fits if fit.alpha == alpha):
            name = escape_mathtext(names[fit.optimizer])
            bars = {point.dim: each for point in fit.points if (each := bar(point)) is not None}
            positive = {dim: each for dim, each in bars.items() if each[0] > 0}
            if positive:
                draw_power_law(axes, fit, positive, name, styles[fit.optimizer])
                drawn.append(fit)
            else:
                missing = not_positive if bars else unidentified
                missing.append(f"{name} (alpha = {alpha:g})")
        set_log_axes(axes, dims(summary))
    beyond = label_panels(panels.values())
    missing_entries = missing_legend(not_positive) | missing_legend(unidentified, "not identified")
    add_legend(figure, _legend(drawn, bar_meaning) | beyond | missing_entries)
    return figure


def _legend(drawn: Sequence[Fit[P]], bar_meaning: str) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {bar_meaning: {"marker": "o", "ls": ""}} if drawn else {}
    if any(fit.estimate.value is not None for fit in drawn):
        entries["fitted power of d, its exponent beside the name"] = {"ls": "-"}
    if any(fit.law is not None for fit in drawn):
        entries["slope of theory"] = {"ls": "--"}
    return entries


def draw_power_law(
    axes: Axes, fit: Fit[P], bars: Mapping[int, ErrorBar], name: str, style: CurveStyle
) -> None:
    """Draw the bars by `d`, and the fitted and the predicted slope through their mean."""
    at = np.array([*bars], float)
    values, lows, highs = np.array([*bars.values()], float).T
    slope = fit.estimate.value
    label = name if slope is None else f"{name}: {slope:.2f}"
    errors = np.clip([values - lows, highs - values], 0, None)
    axes.errorbar(
        at, values, errors, fmt=style.marker, ms=5, capsize=3, color=style.color, label=label
    )
    middle, level = np.exp(np.log(at).mean()), np.exp(np.log(values).mean())
    if slope is not None:
        axes.plot(at, level * (at / middle) ** slope, color=style.color)
    if fit.law is not None:
        theory = level * (at / middle) ** fit.law.exponent
        axes.plot(at, theory, "--", color=style.color, alpha=0.5)


def set_log_axes(axes: Axes, ticks: Sequence[int]) -> None:
    """Make both axes logarithmic, with `d` at the ticks of the horizontal one."""
    if not axes.containers:  # a logarithmic axis needs a positive value
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center")
        return
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(ticks, labels=[str(dim) for dim in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
