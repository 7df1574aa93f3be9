"""The plot of a power of `d`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

from memsolve.engine import Fit, Summary
from memsolve.report.curves import height, label_ends, width
from memsolve.report.drawing import (
    Bar,
    Look,
    P,
    dims,
    key,
    key_of_absent,
    looks,
    optimizers,
    panels,
    plain,
    titles_of_alpha,
)
from memsolve.report.names import short


def against_dim(
    summary: Summary[P], quantity: str, measured: Callable[[P], Bar | None], bars: str
) -> Figure:
    """One panel an alpha: a quantity against `d`, its fitted power law, and theory's slope.

    Args:
        summary: what to draw.
        quantity: for the axis.
        measured: value and bar of a point, or None where it is not identified.
        bars: what value and bar are, as "mean and range over seeds".
    """
    names = short(optimizers(summary))
    look = looks(names)
    figure, found = panels(
        titles_of_alpha(summary),
        size=(width([f"{name}: 1.00" for name in names.values()], 3.2), height(len(names), 4)),
        axes=("embedding dimension d", quantity),
    )
    shown: list[Fit[P]] = []
    absent: list[str] = []
    unidentified: list[str] = []
    for alpha, axes in found.items():
        for fit in (fit for fit in summary.fits if fit.alpha == alpha):
            ends = [(point.dim, measured(point)) for point in fit.points]
            drawn = [(dim, *bar) for dim, bar in ends if bar is not None and bar[0] > 0]
            if drawn:
                _power_law(axes, fit, drawn, names[fit.optimizer], look[fit.optimizer])
                shown.append(fit)
            else:
                missing = absent if any(bar is not None for _, bar in ends) else unidentified
                missing.append(f"{plain(names[fit.optimizer])} (alpha = {alpha:g})")
        _log_axes(axes, dims(summary))
    for axes in found.values():  # whose limits all of them share
        label_ends(axes)
    meanings: dict[str, dict[str, Any]] = {bars: {"marker": "o", "ls": ""}} if shown else {}
    if any(fit.estimate.value is not None for fit in shown):
        meanings["fitted power of d, its exponent beside the name"] = {"ls": "-"}
    if any(fit.law is not None for fit in shown):
        meanings["slope of theory"] = {"ls": "--"}
    meanings |= key_of_absent(absent) | key_of_absent(unidentified, "not identified")
    key(figure, meanings)
    return figure


def _power_law(
    axes: Axes,
    fit: Fit[P],
    drawn: Sequence[tuple[int, float, float, float]],
    name: str,
    look: Look,
) -> None:
    at, values, lows, highs = (np.array(column, float) for column in zip(*drawn, strict=True))
    slope = fit.estimate.value
    label = plain(name) if slope is None else f"{plain(name)}: {slope:.2f}"
    errors = np.clip([values - lows, highs - values], 0, None)
    axes.errorbar(
        at, values, errors, fmt=look.marker, ms=5, capsize=3, color=look.color, label=label
    )
    middle, level = np.exp(np.log(at).mean()), np.exp(np.log(values).mean())
    if slope is not None:
        axes.plot(at, level * (at / middle) ** slope, color=look.color)
    if fit.law is not None:
        theory = level * (at / middle) ** fit.law.exponent
        axes.plot(at, theory, "--", color=look.color, alpha=0.5)


def _log_axes(axes: Axes, at: Sequence[int]) -> None:
    if not axes.containers:  # nothing above zero was measured, and a log axis needs something
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center")
        return
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(at, labels=[str(dim) for dim in at])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
