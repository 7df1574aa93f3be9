"""The figures of the one-step studies: shares of the exact capacity, saturation, anisotropy."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.report.curves import label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    add_legend,
    alpha_titles,
    create_panels,
    dims,
    dims_legend,
    draw_estimate,
    escape_mathtext,
    missing_legend,
    optimizer_titles,
    optimizers,
    panel_size,
    shades,
)
from memsolve.report.emphasis import optimizer_styles
from memsolve.report.names import shorten_names
from memsolve.study.formatting import format_value
from memsolve.study.one_step.points import AnisotropyPoint, PrecisionPoint, SaturationPoint

GPT2_KAPPAS = 0.6, 1.1
"""Range of kappa of the inputs of GPT-2's matrices, by a public survey of their second moments."""

SHARES_IN_LABEL = 6
"""The description of the figure of shares lists the smallest ones, and no more than this."""


def shares_of_exact(summary: Summary[PrecisionPoint]) -> Figure:
    """A panel for each alpha, a row for each optimizer: its share at each `d`."""
    names = optimizers(summary)
    figure, panel_of = create_panels(
        alpha_titles(summary),
        size=(3.4, 0.3 * len(names) + 1),
        axes=("share of the exact capacity", ""),
        share=(True, True),
    )
    shade = shades(dims(summary))
    for axes in panel_of.values():
        axes.axvline(1, color="black", lw=0.8)
        axes.tick_params(left=False, labelleft=False)
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            for row, name in enumerate(names):  # above its bars, which may be as long
                axes.text(0.01, row - 0.22, escape_mathtext(name), va="bottom", fontsize=7)
    for fit in summary.fits:
        row, axes = names.index(fit.optimizer), panel_of[fit.alpha]
        for point in fit.points:
            if (bar := point.estimate.bar) is not None:
                value, low, high = bar
                axes.errorbar(
                    value,
                    row,
                    xerr=[[value - low], [high - value]],
                    fmt="o",
                    ms=4.5,
                    capsize=2,
                    color=shade[point.dim],
                )
    first = next(iter(panel_of.values()))
    first.set_xlim(left=0)
    first.set(ylim=(len(names) - 0.5, -1), yticks=range(len(names)))
    bars = {"share and 95% interval over seeds": {"marker": "o", "ls": "-"}}
    add_legend(figure, dims_legend(shade) | bars)
    figure.set_label(_describe_shares(summary))
    return figure


def _describe_shares(summary: Summary[PrecisionPoint]) -> str:
    """The figure in words: the smallest shares at the largest `d`."""
    last = [(fit, fit.points[-1]) for fit in summary.fits if fit.points[-1].share is not None]
    last.sort(key=lambda pair: pair[1].share or 0)
    smallest = [
        f"{fit.optimizer} at alpha = {fit.alpha:g} and d = {point.dim} {point.share:.0%}"
        for fit, point in last[:SHARES_IN_LABEL]
    ]
    return (
        f"Of {len(last)} shares of the exact polar factor's capacity at the largest d, the "
        f"smallest are: {'; '.join(smallest)}. The table lists all of them, with 95% intervals "
        "over seeds."
    )


def saturation_curves(summary: Summary[SaturationPoint]) -> Figure:
    """Recovered items against the batch size: a panel for each alpha and optimizer."""

    def saturation_batch_sizes(points: list[SaturationPoint]) -> str:
        return f"B* = {', '.join(format_value(point.value) for point in points)}"

    titles = optimizer_titles(summary, saturation_batch_sizes)
    labels = "batch size B", "recovered items"
    figure, panel_of = create_panels(
        titles, size=panel_size(len(titles)), axes=labels, share=(True, True)
    )
    shade = shades(dims(summary))
    for fit in summary.fits:
        axes = panel_of[fit.alpha, fit.optimizer]
        for point in fit.points:
            _draw_saturation(axes, point, shade[point.dim])
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
    next(iter(panel_of.values())).set_ylim(bottom=0.7)
    meanings = dims_legend(shade)
    meanings["mean over seeds"] = {"marker": "o", "ls": "", "ms": 3.5}
    meanings["asymptotes: small batches, and the population"] = {"ls": "--", "lw": 1}
    diamond = {"marker": "D", "ls": "", "mfc": "white", "mew": 1.5}
    add_legend(figure, meanings | {"B*, with its 95% interval over seeds": diamond})
    return figure


def _draw_saturation(axes: Axes, point: SaturationPoint, color: Any) -> None:
    """Mean counts, both asymptotes, and the batch size at which they cross."""
    batch_sizes = np.array(point.batch_sizes, dtype=float)
    recovered = np.array(point.recovered).mean(1)
    rise = point.rise * np.array(point.distinct)
    below = rise < 3 * point.plateau
    axes.plot(batch_sizes, recovered, "o", ms=3.5, color=color, label=f"d = {point.dim}")
    axes.plot(batch_sizes[below], rise[below], "--", lw=1, color=color, alpha=0.7)
    across = axes.get_yaxis_transform()  # axhline would query the limits of all panels each time
    axes.plot([0, 1], [point.plateau] * 2, "--", lw=1, color=color, alpha=0.7, transform=across)
    if (bar := point.estimate.bar) is not None:
        draw_estimate(axes, bar, point.plateau, "D", color)


def counts_against_kappa(summary: Summary[AnisotropyPoint]) -> Figure:
    """Recovered items against kappa: a panel for each alpha and `d`, a curve for each optimizer."""
    names = shorten_names(optimizers(summary))
    styles = optimizer_styles(summary)
    titles = {
        (alpha, dim): f"{title}, d = {dim}"
        for alpha, title in alpha_titles(summary).items()
        for dim in dims(summary)
    }
    figure, panel_of = create_panels(
        titles,
        size=(panel_width(list(names.values()), 1.6), panel_height(len(names), 3)),
        axes=("kappa of the inputs", "recovered items"),
        share=(True, True),
    )
    missing = []
    for fit in summary.fits:
        name, style = escape_mathtext(names[fit.optimizer]), styles[fit.optimizer]
        for point in fit.points:
            counts, lows, highs = np.array([count.bar for count in point.counts]).T
            if not counts.any():
                missing.append(f"{name} ({titles[fit.alpha, point.dim]})")
                continue
            axes = panel_of[fit.alpha, point.dim]
            if point.law:
                predicted = counts[0] * np.array(point.law)
                axes.plot(point.kappas, predicted, "--", lw=1, color=style.color)
            axes.errorbar(
                point.kappas,
                counts,
                [counts - lows, highs - counts],
                marker=style.marker,
                ms=4,
                capsize=2,
                color=style.color,
                label=name,
            )
    for axes in panel_of.values():
        axes.axvspan(*GPT2_KAPPAS, color="black", alpha=0.07, lw=0)
        axes.set_yscale("log")
    next(iter(panel_of.values())).set_ylim(bottom=0.7)
    for axes in panel_of.values():  # which share their limits
        label_ends(axes)
    meanings: dict[str, dict[str, Any]] = {
        "mean and 95% interval over seeds": {"marker": "o", "ls": "-"}
    }
    if any(point.law for fit in summary.fits for point in fit.points):
        meanings["law from kappa = 0"] = {"ls": "--", "lw": 1}
    meanings["kappa of inputs in GPT-2"] = {"color": "black", "alpha": 0.12, "lw": 8}
    add_legend(figure, meanings | missing_legend(missing))
    return figure
