"""The figures of a study, from its summary alone."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from memsolve.report.words import LABELS, interval, plain
from memsolve.study import Fit, Summary

KNOWN = {"sgd": "#c0504d", "muon": "#1f5fa8", "newton": "#3a8f5c"}
OTHERS = ("#8064a2", "#d98e1f", "#3aa6a6", "#7f7f7f", "#b5578f")
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


def figures(summary: Summary) -> dict[str, Figure]:
    """Figures by file name (without ending), in the order of the report."""
    with mpl.rc_context(STYLE):
        if summary.study == "precision":
            return {"precision": _shares(summary)}
        against_dim = {f"{summary.study}-against-d": _against_dim(summary)}
        if summary.study == "saturation":
            return {"saturation-against-batch": _against_batch(summary), **against_dim}
        return against_dim


def _against_dim(summary: Summary) -> Figure:
    """One panel an alpha: the quantity against `d`, its fitted power law, and theory's slope."""
    alphas = sorted({fit.alpha for fit in summary.fits})
    figure = Figure(figsize=(5.2 * len(alphas) + 0.4, 4.4), layout="constrained")
    panels = figure.subplots(1, len(alphas), squeeze=False, sharey=True)[0]
    colors = _colors(summary.fits)
    for axes, alpha in zip(panels, alphas, strict=True):
        fits = [fit for fit in summary.fits if fit.alpha == alpha]
        for fit in fits:
            _power_law(axes, fit, colors[fit.optimizer])
        axes.plot([], [], "k--", alpha=0.5, label="slope of theory")
        axes.set(title=f"alpha = {alpha:g}", xlabel="embedding dimension d")
        _log_axes(axes, [point["dim"] for point in fits[0].points])
        axes.legend(fontsize=8, title="exponent in d")
    panels[0].set_ylabel(LABELS[summary.study])
    return figure


def _power_law(axes: Axes, fit: Fit, color: str) -> None:
    drawn = [(point["dim"], *_measured(point)) for point in fit.points]
    drawn = [row for row in drawn if row[1] is not None and row[1] > 0]
    if not drawn:
        return
    dims, values, lows, highs = (
        np.array(column, dtype=float) for column in zip(*drawn, strict=True)
    )
    label = f"{plain(fit.optimizer)}: {interval(fit.estimate)}"
    if fit.theory is not None:
        label += f", theory {fit.theory:.2f}"
    errors = np.clip([values - lows, highs - values], 0, None)
    axes.errorbar(dims, values, errors, fmt="o", ms=5, capsize=3, color=color, label=label)
    middle, level = np.exp(np.log(dims).mean()), np.exp(np.log(values).mean())
    if fit.estimate.value is not None:
        axes.plot(dims, level * (dims / middle) ** fit.estimate.value, color=color)
    if fit.theory is not None:
        axes.plot(dims, level * (dims / middle) ** fit.theory, "--", color=color, alpha=0.5)


def _measured(point: dict[str, Any]) -> tuple[float | None, float, float]:
    """Value and bar of a point: the interval of a fitted one, else the range over seeds."""
    if "value" in point:
        value = point["value"]
        bar = [value if end is None else end for end in (point["low"], point["high"])]
        return value, bar[0], bar[1]
    counts = point["recovered"]
    return float(np.mean(counts)), min(counts), max(counts)


def _against_batch(summary: Summary) -> Figure:
    """Rows of alpha, columns of optimizers: recovered items against the batch size."""
    alphas = sorted({fit.alpha for fit in summary.fits})
    optimizers = list(dict.fromkeys(fit.optimizer for fit in summary.fits))
    size = 4.2 * len(optimizers) + 0.6, 3.8 * len(alphas) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(
        len(alphas), len(optimizers), squeeze=False, sharex="row", sharey="row"
    )
    for fit in summary.fits:
        axes = panels[alphas.index(fit.alpha), optimizers.index(fit.optimizer)]
        shades = mpl.colormaps["viridis"](np.linspace(0.1, 0.8, len(fit.points)))
        for point, shade in zip(fit.points, shades, strict=True):
            _saturating(axes, point, shade)
        axes.set_title(fill(f"{plain(fit.optimizer)}, alpha = {fit.alpha:g}", 36), fontsize=10)
        axes.set_xlabel("batch size B")
        axes.set(xscale="log", yscale="log")
        axes.legend(fontsize=8, title="saturates at B*")
    for row in panels:
        row[0].set_ylabel("recovered items")
        row[0].set_ylim(bottom=0.7)
    return figure


def _saturating(axes: Axes, point: dict[str, Any], color: Any) -> None:
    batch_sizes = np.array(point["batch_sizes"], dtype=float)
    recovered = np.array(point["recovered"]).mean(1)
    rise = point["rise"] * np.array(point["distinct"])
    below = rise < 3 * point["plateau"]
    value = point["value"]
    found = "not identified" if value is None else f"{value:.0f}"
    label = f"d = {point['dim']}: {found}"
    axes.plot(batch_sizes, recovered, "o", ms=3.5, color=color, label=label)
    axes.plot(batch_sizes[below], rise[below], "--", lw=1, color=color, alpha=0.7)
    axes.axhline(point["plateau"], ls="--", lw=1, color=color, alpha=0.7)
    if value is not None:
        low, high = (value if end is None else end for end in (point["low"], point["high"]))
        axes.errorbar(
            value,
            point["plateau"],
            xerr=[[value - low], [high - value]],
            fmt="D",
            ms=7,
            mfc="white",
            mew=1.5,
            capsize=3,
            color=color,
            zorder=3,
        )


def _shares(summary: Summary) -> Figure:
    """One panel an alpha, one row an optimizer: its share of the exact capacity at each `d`."""
    alphas = sorted({fit.alpha for fit in summary.fits})
    names = list(dict.fromkeys(fit.optimizer for fit in summary.fits))
    size = 2.8 * len(alphas) + 3.6, 0.27 * len(names) + 1.4
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(alphas), squeeze=False, sharex=True, sharey=True)[0]
    dims = [point["dim"] for point in summary.fits[0].points]
    shades = mpl.colormaps["viridis"](np.linspace(0.1, 0.8, len(dims)))
    for axes, alpha in zip(panels, alphas, strict=True):
        axes.axvline(1, color="black", lw=0.8)
        axes.set(title=f"alpha = {alpha:g}", xlabel="share of the exact capacity")
    for fit in summary.fits:
        row, axes = names.index(fit.optimizer), panels[alphas.index(fit.alpha)]
        for point, shade in zip(fit.points, shades, strict=True):
            share = point["share"]
            if share is None:
                continue
            low, high = (
                share if end is None else end for end in (point["share_low"], point["share_high"])
            )
            bar = [[share - low], [high - share]]
            axes.errorbar(share, row, xerr=bar, fmt="o", ms=4.5, capsize=2, color=shade)
    for dim, shade in zip(dims, shades, strict=True):
        panels[0].plot([], [], "o", color=shade, label=f"d = {dim}")
    panels[0].legend(fontsize=8)
    panels[0].set_xlim(0, 1.1)
    panels[0].set_yticks(range(len(names)), labels=[plain(name) for name in names], fontsize=8)
    panels[0].set_ylim(len(names) - 0.3, -0.7)
    return figure


def _log_axes(axes: Axes, dims: Sequence[int]) -> None:
    if not axes.containers:  # nothing above zero was measured, and a log axis needs something
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center")
        return
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(dims, labels=[str(dim) for dim in dims])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _colors(fits: Sequence[Fit]) -> dict[str, str]:
    others = [name for name in dict.fromkeys(fit.optimizer for fit in fits) if name not in KNOWN]
    return KNOWN | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(others)}
