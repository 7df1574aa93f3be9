"""The figures of `dynamics` against steps: items, loss and margins."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Fit, Summary
from memsolve.report.curves import (
    band_legend,
    draw_curve,
    draw_mean,
    label_panels,
    panel_height,
    panel_width,
)
from memsolve.report.drawing import (
    MAX_BANDS,
    CurveStyle,
    add_legend,
    create_panels,
    escape_mathtext,
    missing_legend,
    optimizers,
)
from memsolve.report.emphasis import optimizer_styles
from memsolve.report.names import shorten_names
from memsolve.study.training.point import DynamicsPoint

Panels = dict[tuple[float, int | None, int], Axes]
"""By alpha, batch size and `d`."""


def recovered(summary: Summary[DynamicsPoint]) -> Figure:
    """Recovered items against steps, and the limit."""
    figure, panel_of = _panels(summary, "step", "recovered items")
    few = len(optimizers(summary)) <= MAX_BANDS
    absent = []
    for fit, name, look in _fits_with_looks(summary):
        for point in fit.points:
            axes = panel_of[fit.alpha, fit.batch_size, point.dim]
            counts = np.array(point.recovered, dtype=float)
            if not counts.any():
                absent.append(f"{name} (alpha = {fit.alpha:g}, d = {point.dim})")
                continue
            steps = np.arange(1, len(counts) + 1.0)
            draw_mean(axes, name, look, steps, counts, with_band=few)
            if few:
                axes.plot(steps, point.best_recovered[: len(steps)], ":", lw=1, color=look.color)
    limits = {point.dim: point.limit for fit in summary.fits for point in fit.points}
    for (_, _, dim), axes in panel_of.items():
        axes.axhline(limits[dim], color="black", lw=0.8)
        axes.set(xscale="log", yscale="log")
    next(iter(panel_of.values())).set_ylim(0.7, 2 * max(limits.values()))
    meanings: dict[str, dict[str, Any]] = {"mean over seeds": {"ls": "-"}}
    if few:
        meanings |= band_legend(len(summary.fits[0].points[0].plateau))
        meanings["best trial after each step"] = {"ls": ":", "lw": 1}
    meanings["d² / (2 ln N), about what any weight can store"] = {"color": "black", "lw": 0.8}
    _label(figure, panel_of, meanings | missing_legend(absent))
    return figure


def loss(summary: Summary[DynamicsPoint]) -> Figure:
    """The loss before each step, on its batch."""
    figure, panel_of = _panels(summary, "steps taken", "loss on the batch of the next step")
    for fit, name, look in _fits_with_looks(summary):
        for point in fit.points:
            curves = np.array(point.loss)
            if len(curves):
                axes = panel_of[fit.alpha, fit.batch_size, point.dim]
                draw_curve(axes, name, look, np.arange(float(len(curves))), curves.mean(1), None)
                axes.set_xscale("symlog", linthresh=1)
                axes.set(yscale="log")
    meanings = {"mean over seeds": {"ls": "-"}}
    _label(figure, panel_of, meanings)
    return figure


def margins(summary: Summary[DynamicsPoint]) -> Figure:
    """Median and interquartile range of the margins of the most frequent items."""
    figure, panel_of = _panels(summary, "step", "margin of the most frequent items")
    few = len(optimizers(summary)) <= MAX_BANDS
    for fit, name, look in _fits_with_looks(summary):
        for point in fit.points:
            if not point.marks:
                continue
            _, low, median, high, _ = np.array(point.margins).T
            axes = panel_of[fit.alpha, fit.batch_size, point.dim]
            draw_curve(
                axes, name, look, np.array(point.marks), median, (low, high) if few else None
            )
            axes.axhline(0, color="black", lw=0.8)
            axes.set(xscale="log", yscale="symlog")
    meanings: dict[str, dict[str, Any]] = {"median of the items, mean over seeds": {"ls": "-"}}
    if few:
        meanings["quartiles of the items, mean over seeds"] = {"lw": 6, "alpha": 0.3}
    _label(figure, panel_of, meanings)
    return figure


def _panels(summary: Summary[DynamicsPoint], x: str, y: str) -> tuple[Figure, Panels]:
    """A figure with a panel for each alpha, batch size and `d`."""
    titles = {}
    for fit in summary.fits:
        batch = "" if fit.batch_size is None else f", B = {fit.batch_size}"
        for point in fit.points:
            title = f"alpha = {fit.alpha:g}, d = {point.dim}{batch}"
            titles[fit.alpha, fit.batch_size, point.dim] = title
    names = [*shorten_names(optimizers(summary)).values()]
    size = panel_width(names, 2.6), panel_height(len(names), 3.4)
    return create_panels(titles, size=size, axes=(x, y))


def _fits_with_looks(
    summary: Summary[DynamicsPoint],
) -> list[tuple[Fit[DynamicsPoint], str, CurveStyle]]:
    """Every fit with the short name and the look of its optimizer."""
    names = shorten_names(optimizers(summary))
    look = optimizer_styles(summary)
    return [
        (fit, escape_mathtext(names[fit.optimizer]), look[fit.optimizer]) for fit in summary.fits
    ]


def _label(figure: Figure, panel_of: Panels, meanings: dict[str, dict[str, Any]]) -> None:
    """Name the curves at their ends, and add the key."""
    add_legend(figure, meanings | label_panels(panel_of.values()))
