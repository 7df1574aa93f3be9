"""What the figures of studies share: style, colours, panels, and the plot of a power of `d`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from memsolve.engine import Fit, Point, Summary

COLORS = (
    "#c0504d",
    "#1f5fa8",
    "#3a8f5c",
    "#8064a2",
    "#d98e1f",
    "#3aa6a6",
    "#7f7f7f",
    "#b5578f",
)
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "memsolve",  # the same study, the same file
    "svg.fonttype": "none",
}

P = TypeVar("P", bound=Point)
Bar = tuple[float, float, float]
"""A value and the ends of its bar."""


def plain(label: str) -> str:
    """A label as matplotlib should show it: no mathematics, and not hidden for an underscore."""
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")


def colors(summary: Summary[P]) -> dict[str, str]:
    """A colour for each optimizer, by its place in the study."""
    names = dict.fromkeys(fit.optimizer for fit in summary.fits)
    return {name: COLORS[place % len(COLORS)] for place, name in enumerate(names)}


def shades(count: int) -> list[Any]:
    """So many shades from dark to light, for what has an order, as `d` has."""
    return list(mpl.colormaps["viridis"](np.linspace(0.1, 0.8, count)))


def panels_of_alpha(
    summary: Summary[P], *, width: float, height: float, margin: float, sharex: bool = False
) -> tuple[Figure, dict[float, Axes]]:
    """A figure with one panel an alpha, titled; width and height of a panel in inches."""
    alphas = sorted({fit.alpha for fit in summary.fits})
    figure = Figure(figsize=(width * len(alphas) + margin, height), layout="constrained")
    row = figure.subplots(1, len(alphas), squeeze=False, sharex=sharex, sharey=True)[0]
    for axes, alpha in zip(row, alphas, strict=True):
        axes.set(title=f"alpha = {alpha:g}")
    return figure, dict(zip(alphas, row, strict=True))


def panels_by_optimizer(
    summary: Summary[P], *, width: float, height: float
) -> tuple[Figure, dict[tuple[float, str], Axes]]:
    """Rows of alpha, columns of optimizers, by both; width and height of a panel in inches."""
    alphas = sorted({fit.alpha for fit in summary.fits})
    optimizers = list(dict.fromkeys(fit.optimizer for fit in summary.fits))
    size = width * len(optimizers) + 0.6, height * len(alphas) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subplots(len(alphas), len(optimizers), squeeze=False, sharex="row", sharey="row")
    return figure, {
        (alpha, optimizer): axes
        for alpha, row in zip(alphas, rows, strict=True)
        for optimizer, axes in zip(optimizers, row, strict=True)
    }


def against_dim(summary: Summary[P], quantity: str, measured: Callable[[P], Bar | None]) -> Figure:
    """One panel an alpha: a quantity against `d`, its fitted power law, and theory's slope.

    Args:
        summary: what to draw.
        quantity: for the axis.
        measured: value and bar of a point, or None where there is none.
    """
    figure, panels = panels_of_alpha(summary, width=5.2, height=4.4, margin=0.4)
    color = colors(summary)
    for alpha, axes in panels.items():
        fits = [fit for fit in summary.fits if fit.alpha == alpha]
        for fit in fits:
            bars = [(point.dim, measured(point)) for point in fit.points]
            drawn = [(dim, *bar) for dim, bar in bars if bar is not None and bar[0] > 0]
            if drawn:
                _power_law(axes, fit, drawn, color[fit.optimizer])
        if any(fit.law is not None for fit in fits):
            axes.plot([], [], "k--", alpha=0.5, label="slope of theory")
        axes.set(xlabel="embedding dimension d")
        _log_axes(axes, [point.dim for point in fits[0].points])
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, title="exponent in d")
    next(iter(panels.values())).set_ylabel(quantity)
    return figure


def _power_law(
    axes: Axes, fit: Fit[P], drawn: Sequence[tuple[int, float, float, float]], color: str
) -> None:
    dims, values, lows, highs = (np.array(column, float) for column in zip(*drawn, strict=True))
    label = f"{plain(fit.optimizer)}: {fit.estimate}"
    if fit.law is not None:
        label += f", theory {fit.law.exponent:.2f}"
    errors = np.clip([values - lows, highs - values], 0, None)
    axes.errorbar(dims, values, errors, fmt="o", ms=5, capsize=3, color=color, label=label)
    middle, level = np.exp(np.log(dims).mean()), np.exp(np.log(values).mean())
    if fit.estimate.value is not None:
        axes.plot(dims, level * (dims / middle) ** fit.estimate.value, color=color)
    if fit.law is not None:
        slope = fit.law.exponent
        axes.plot(dims, level * (dims / middle) ** slope, "--", color=color, alpha=0.5)


def _log_axes(axes: Axes, dims: Sequence[int]) -> None:
    if not axes.containers:  # nothing above zero was measured, and a log axis needs something
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center")
        return
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(dims, labels=[str(dim) for dim in dims])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
