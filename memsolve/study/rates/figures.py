"""The figures of `rates`: exponents against the step, and items against the step at each `d`."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memsolve.engine import Fit, Summary
from memsolve.report.curves import label_ends, label_panels, panel_height, panel_width
from memsolve.report.drawing import (
    add_legend,
    create_panels,
    dims,
    escape_mathtext,
    missing_legend,
    optimizers,
    shades,
)
from memsolve.report.emphasis import optimizer_styles
from memsolve.report.names import shorten_names
from memsolve.study.rates.point import RatesPoint

OFFSET = 0.07
"""Steps between the bars of one optimizer and the next, so that they do not cover each other."""

LIMIT = 2.0
"""The exponent of the number of items that a weight can store."""

Fits = list[Fit[RatesPoint]]


def by_curve(summary: Summary[RatesPoint]) -> Iterator[tuple[str, float, str, Fits]]:
    """Optimizer, alpha and gradient, with the fits of all steps."""

    def curve(fit: Fit[RatesPoint]) -> tuple[str, float, str]:
        return fit.optimizer, fit.alpha, fit.points[0].gradient

    ordered = sorted(summary.fits, key=lambda fit: (*curve(fit), fit.points[0].step))
    groups = {key: list(fits) for key, fits in groupby(ordered, curve)}
    for key in dict.fromkeys(map(curve, summary.fits)):
        yield *key, groups[key]


def exponents(summary: Summary[RatesPoint]) -> Figure:
    """The exponents in `d` with their intervals, and the laws: a panel an alpha and gradient."""
    names = shorten_names(optimizers(summary))
    styles = optimizer_styles(summary)
    titles = {
        (alpha, gradient): f"alpha = {alpha:g}, {gradient} gradient"
        for _, alpha, gradient, _ in sorted(by_curve(summary), key=lambda curve: curve[1])
    }
    figure, panel_of = create_panels(
        titles,
        size=(panel_width([*names.values()], 3.0), panel_height(len(names), 3.4)),
        axes=("steps", "exponent in d"),
    )
    absent = []
    for name, alpha, gradient, fits in by_curve(summary):
        axes, style = panel_of[alpha, gradient], styles[name]
        offset = OFFSET * (list(names).index(name) - (len(names) - 1) / 2)
        bars = {fit.points[0].step: bar for fit in fits if (bar := fit.estimate.bar) is not None}
        label = escape_mathtext(names[name])
        if bars:
            value, low, high = np.array([*bars.values()]).T
            axes.errorbar(
                np.array([*bars]) + offset,
                value,
                yerr=[value - low, high - value],
                fmt=style.marker,
                ls="-",
                ms=4,
                capsize=2,
                color=style.color,
                label=label,
            )
        absent += [
            f"{label}, alpha = {alpha:g}, {gradient} gradient, step {fit.points[0].step}"
            for fit in fits
            if fit.estimate.value is None
        ]
        law = {fit.points[0].step: fit.law.exponent for fit in fits if fit.law is not None}
        axes.plot([*law], [*law.values()], "--", lw=1, color=style.color)
    values = [fit.estimate.value for fit in summary.fits if fit.estimate.value is not None]
    for axes in panel_of.values():
        axes.axhline(LIMIT, color="black", lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, 1.25 * max([LIMIT, *values]))  # a wide interval may leave the panel
        label_ends(axes)
    meanings: dict[str, dict[str, Any]] = {
        "exponent and 95% interval over seeds": {"marker": "o", "ls": "-", "ms": 4},
        "law": {"ls": "--", "lw": 1},
        "limit, d²": {"color": "black", "lw": 0.8},
    }
    add_legend(figure, meanings | missing_legend(absent, "no exponent"))
    return figure


def items(summary: Summary[RatesPoint]) -> Figure:
    """Items after each step at each `d`, with the law: a panel for each curve of `exponents`.

    The law has an unknown constant at each step, so that of the smallest `d` is taken.
    """
    names = shorten_names(optimizers(summary))
    shade = shades(dims(summary))
    titles = {
        (name, alpha, gradient): (
            f"{escape_mathtext(names[name])}, alpha = {alpha:g}\n{gradient} gradient"
        )
        for name, alpha, gradient, _ in by_curve(summary)
    }
    labels = [f"d = {dim}" for dim in shade]
    figure, panel_of = create_panels(
        titles,
        size=(panel_width(labels, 1.9), panel_height(len(labels), 3.2)),
        axes=("steps", "recovered items"),
    )
    for name, alpha, gradient, fits in by_curve(summary):
        axes = panel_of[name, alpha, gradient]
        law = np.array([fit.law.exponent for fit in fits if fit.law is not None])
        smallest = np.array([fit.points[0].mean for fit in fits])
        for points in zip(*(fit.points for fit in fits), strict=True):
            color = shade[points[0].dim]
            steps = np.array([point.step for point in points])
            means, low, high = np.array([point.items.bar for point in points]).T
            axes.plot(steps, means, "o-", ms=3.5, color=color, label=f"d = {points[0].dim}")
            axes.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
            small = np.array([not point.has_enough_items for point in points])
            axes.plot(steps[small], means[small], "o", ms=3.5, mfc="white", color=color)
            if len(law):
                growth = (points[0].dim / fits[0].points[0].dim) ** law
                axes.plot(steps, smallest * growth, "--", lw=1, color=color)
        axes.set(yscale="log")
        axes.minorticks_off()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    beyond = label_panels(panel_of.values())
    meanings: dict[str, dict[str, Any]] = {
        "mean over seeds, best trial at each step": {"marker": "o", "ls": "-", "ms": 3.5},
        "95% interval over seeds": {"lw": 6, "alpha": 0.3},
        "law, from the counts at the smallest d": {"ls": "--", "lw": 1},
    }
    if not all(point.has_enough_items for fit in summary.fits for point in fit.points):
        meanings["N too small"] = {"marker": "o", "ls": "", "ms": 3.5, "mfc": "white"}
    add_legend(figure, meanings | beyond)
    return figure
