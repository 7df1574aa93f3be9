"""How training looks: counts, loss and margins by step, and the tuning that they come from."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Fit, Summary
from memsolve.report.curves import draw_curve, label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    MAX_BANDS,
    CurveStyle,
    add_legend,
    create_panels,
    curve_styles,
    escape_mathtext,
    missing_legend,
    optimizers,
)
from memsolve.report.names import shorten_names
from memsolve.study.training.dynamics_point import DynamicsPoint

Panels = dict[tuple[float, int | None, int], Axes]
"""By alpha, batch size and `d`."""


def recovered(summary: Summary[DynamicsPoint]) -> Figure:
    """Recovered items against steps, theory's growth from the first step on, and the limit."""
    figure, found = _panels(summary, "step", "recovered items")
    few = len(optimizers(summary)) <= MAX_BANDS
    absent = []
    for fit, name, look in _dressed(summary):
        for point in fit.points:
            axes = found[fit.alpha, fit.batch_size, point.dim]
            counts = np.array(point.recovered, dtype=float)
            if not counts.any():
                absent.append(f"{name} (alpha = {fit.alpha:g}, d = {point.dim})")
                continue
            steps, mean = np.arange(1, len(counts) + 1.0), counts.mean(1)
            band = (counts.min(1), counts.max(1)) if few else None
            draw_curve(axes, name, look, steps, mean, band)
            if few:
                axes.plot(steps, point.best[: len(steps)], ":", lw=1, color=look.color)
            if few and point.law and mean[0] > 0:
                growth = point.dim ** (np.array(point.law) - point.law[0])
                foreseen = np.minimum(mean[0] * growth, point.limit)
                axes.plot(steps, foreseen, "--", lw=1, color=look.color)
    limits = {point.dim: point.limit for fit in summary.fits for point in fit.points}
    for (_, _, dim), axes in found.items():
        axes.axhline(limits[dim], color="black", lw=0.8)
        axes.set(xscale="log", yscale="log")
    next(iter(found.values())).set_ylim(0.7, 2 * max(limits.values()))
    meanings: dict[str, dict[str, Any]] = {"mean over seeds": {"ls": "-"}}
    if few:
        meanings["range over seeds"] = {"lw": 6, "alpha": 0.3}
        meanings["theory from step 1"] = {"ls": "--", "lw": 1}
        meanings["best trial at each step"] = {"ls": ":", "lw": 1}
    meanings["d² / (2 ln N), about what any weight can store"] = {"color": "black", "lw": 0.8}
    return _finished(figure, found, meanings | missing_legend(absent))


def loss(summary: Summary[DynamicsPoint]) -> Figure:
    """Loss before each step, on its batch."""
    figure, found = _panels(summary, "steps made", "loss on the batch of a step")
    for fit, name, look in _dressed(summary):
        for point in fit.points:
            curves = np.array(point.loss)
            if len(curves):
                axes = found[fit.alpha, fit.batch_size, point.dim]
                draw_curve(axes, name, look, np.arange(float(len(curves))), curves.mean(1), None)
                axes.set_xscale("symlog", linthresh=1)
                axes.set(yscale="log")
    meanings = {"mean over seeds": {"ls": "-"}}
    return _finished(figure, found, meanings)


def margins(summary: Summary[DynamicsPoint]) -> Figure:
    """Median and middle half of the margins of the items that `d` could hold."""
    figure, found = _panels(summary, "step", "margin of the most frequent items")
    few = len(optimizers(summary)) <= MAX_BANDS
    for fit, name, look in _dressed(summary):
        for point in fit.points:
            if not point.marks:
                continue
            _, low, middle, high, _ = np.array(point.margins).T
            axes = found[fit.alpha, fit.batch_size, point.dim]
            draw_curve(
                axes, name, look, np.array(point.marks), middle, (low, high) if few else None
            )
            axes.axhline(0, color="black", lw=0.8)
            axes.set(xscale="log", yscale="symlog")
    meanings: dict[str, dict[str, Any]] = {"median, mean over seeds": {"ls": "-"}}
    if few:
        meanings["middle half of the items"] = {"lw": 6, "alpha": 0.3}
    return _finished(figure, found, meanings)


def tuning(summary: Summary[DynamicsPoint]) -> Figure:
    """Every trial: what it has recovered in the end against its step size; a star is chosen."""
    names = shorten_names(optimizers(summary))
    points = [(fit, point) for fit in summary.fits for point in fit.points]
    titles = {}
    for place, (fit, point) in enumerate(points):
        batch = "" if fit.batch_size is None else f", B = {fit.batch_size}"
        edge = ", at the edge of what was tried" if point.edge else ""
        name = escape_mathtext(names[fit.optimizer])
        titles[place] = f"{name}, alpha = {fit.alpha:g}, d = {point.dim}{batch}{edge}"
    labels = "step size", "recovered in the end"
    figure, found = create_panels(titles, size=(2.15, 2.1), axes=labels, share=(False, False))
    schedules = curve_styles(sorted({name for _, point in points for name in point.tried_schedule}))
    for (_, point), axes in zip(points, found.values(), strict=True):
        tried = np.array(point.tried_schedule)
        for schedule, look in schedules.items():
            sizes = np.array(point.tried_lr)[tried == schedule]
            counts = np.array(point.tried_recovered)[tried == schedule]
            axes.plot(sizes, counts, look.marker, ls="-", ms=3, color=look.color, label=schedule)
        axes.plot(point.lr, np.mean(point.plateau), "*", ms=12, mec="black", mfc="none")
        axes.set(xscale="log")
        axes.minorticks_off()
    star = {"chosen": {"marker": "*", "ls": "", "ms": 10, "mec": "black", "mfc": "none"}}
    add_legend(figure, {name: look._asdict() for name, look in schedules.items()} | star)
    return figure


def _panels(summary: Summary[DynamicsPoint], x: str, y: str) -> tuple[Figure, Panels]:
    """A panel an alpha, batch and `d`, with the titles of its axes."""
    titles = {}
    for fit in summary.fits:
        batch = "" if fit.batch_size is None else f", B = {fit.batch_size}"
        for point in fit.points:
            title = f"alpha = {fit.alpha:g}, d = {point.dim}{batch}"
            titles[fit.alpha, fit.batch_size, point.dim] = title
    names = [*shorten_names(optimizers(summary)).values()]
    size = panel_width(names, 2.6), panel_height(len(names), 3.4)
    return create_panels(titles, size=size, axes=(x, y))


def _dressed(summary: Summary[DynamicsPoint]) -> list[tuple[Fit[DynamicsPoint], str, CurveStyle]]:
    """Every fit with the name and look of its optimizer."""
    names = shorten_names(optimizers(summary))
    look = curve_styles(names)
    return [
        (fit, escape_mathtext(names[fit.optimizer]), look[fit.optimizer]) for fit in summary.fits
    ]


def _finished(figure: Figure, found: Panels, meanings: dict[str, dict[str, Any]]) -> Figure:
    """The figure with names at the ends of its curves, and its key."""
    for axes in found.values():
        label_ends(axes)
    add_legend(figure, meanings)
    return figure
