"""How training looks: counts, loss and margins by step, and the tuning that they come from."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Fit, Summary
from memsolve.report.drawing import COLORS, colors, plain
from memsolve.study.outcome import Training

Panels = dict[tuple[float, int, str], Axes]
"""By alpha, `d`, and the fits' quantity, which names the batch."""


def recovered(summary: Summary[Training]) -> Figure:
    """Recovered items against steps, theory's growth from the first step on, and the limit."""
    figure, panels = _panels(summary)
    for fit, color in _colored(summary):
        for point in fit.points:
            axes = panels[fit.alpha, point.dim, fit.quantity]
            counts = np.array(point.recovered, dtype=float)
            if not len(counts):
                continue
            steps = np.arange(1, len(counts) + 1)
            mean = counts.mean(1)
            axes.plot(steps, mean, color=color, label=plain(fit.optimizer))
            axes.fill_between(steps, counts.min(1), counts.max(1), color=color, alpha=0.15, lw=0)
            axes.plot(steps, point.best[: len(steps)], ":", lw=1, color=color)
            if point.law and mean[0] > 0:
                growth = point.dim ** (np.array(point.law) - point.law[0])
                foreseen = np.minimum(mean[0] * growth, point.limit)
                axes.plot(steps, foreseen, "--", lw=1, color=color)
    limits = {point.dim: point.limit for fit in summary.fits for point in fit.points}
    for (_, dim, _), axes in panels.items():
        limit = limits[dim]
        axes.axhline(limit, color="black", lw=0.8)
        axes.annotate(
            "$d^2 / (2 \\ln N)$", (1, limit), xytext=(2, 3), textcoords="offset points", fontsize=8
        )
        axes.set(xscale="log", yscale="log", xlabel="step")
        axes.set_ylim(0.7, 3 * max(limits.values()))
    title = "dashed: theory from step 1; dotted: best at each step"
    return _finished(figure, panels, "recovered items", title)


def loss(summary: Summary[Training]) -> Figure:
    """Loss before each step, on its batch."""
    figure, panels = _panels(summary)
    for fit, color in _colored(summary):
        for point in fit.points:
            curves = np.array(point.loss)
            if len(curves):
                axes = panels[fit.alpha, point.dim, fit.quantity]
                steps = np.arange(len(curves))
                axes.plot(steps, curves.mean(1), color=color, label=plain(fit.optimizer))
                axes.set_xscale("symlog", linthresh=1)
                axes.set(yscale="log", xlabel="steps made")
    return _finished(figure, panels, "loss on the batch of a step", None)


def margins(summary: Summary[Training]) -> Figure:
    """Median and middle half of the margins of the items that `d` could hold."""
    figure, panels = _panels(summary)
    for fit, color in _colored(summary):
        for point in fit.points:
            if not point.marks:
                continue
            _, low, middle, high, _ = np.array(point.margins).T
            axes = panels[fit.alpha, point.dim, fit.quantity]
            axes.plot(point.marks, middle, "o-", ms=3, color=color, label=plain(fit.optimizer))
            axes.fill_between(point.marks, low, high, color=color, alpha=0.15, lw=0)
            axes.axhline(0, color="black", lw=0.8)
            axes.set(xscale="log", yscale="symlog", xlabel="step")
    return _finished(figure, panels, "margin of the most frequent items", "band: middle half")


def tuning(summary: Summary[Training]) -> Figure:
    """Every trial: what it has recovered in the end against its step size; a star is chosen."""
    dims = [point.dim for point in summary.fits[0].points]
    size = 3.4 * len(dims) + 0.6, 2.6 * len(summary.fits) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(summary.fits), len(dims), squeeze=False, sharex="row", sharey="row")
    for fit, row in zip(summary.fits, grid, strict=True):
        for point, axes in zip(fit.points, row, strict=True):
            schedules = np.array(point.tried_schedule)
            for place, schedule in enumerate(dict.fromkeys(point.tried_schedule)):
                tried = schedules == schedule
                sizes = np.array(point.tried_step_size)[tried]
                counts = np.array(point.tried_recovered)[tried]
                axes.plot(sizes, counts, "o-", ms=3, color=COLORS[place], label=schedule)
            axes.plot(point.step_size, np.mean(point.plateau), "*", ms=12, mec="black", mfc="none")
            edge = "\nat the edge of what was tried" if point.edge else ""
            batch = fit.quantity.removeprefix("plateau").replace(" at ", ", ")
            title = f"{plain(fit.optimizer)}, alpha = {fit.alpha:g}, d = {point.dim}{batch}{edge}"
            axes.set_title(title, fontsize=9)
            axes.set(xscale="log", xlabel="step size")
        row[0].set_ylabel("recovered in the end")
    grid[0, 0].legend(fontsize=8)
    return figure


def _panels(summary: Summary[Training]) -> tuple[Figure, Panels]:
    """A row an alpha and batch, a column a `d`."""
    rows = list(dict.fromkeys((fit.alpha, fit.quantity) for fit in summary.fits))
    dims = [point.dim for point in summary.fits[0].points]
    size = 4.2 * len(dims) + 0.6, 3.6 * len(rows) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(dims), squeeze=False, sharey="row")
    panels: Panels = {}
    for (alpha, quantity), line in zip(rows, grid, strict=True):
        batch = quantity.partition(" at ")[2]
        for dim, axes in zip(dims, line, strict=True):
            axes.set_title(f"alpha = {alpha:g}, d = {dim}" + (f", {batch}" if batch else ""))
            panels[alpha, dim, quantity] = axes
    return figure, panels


def _colored(summary: Summary[Training]) -> list[tuple[Fit[Training], str]]:
    color = colors(summary)
    return [(fit, color[fit.optimizer]) for fit in summary.fits]


def _finished(figure: Figure, panels: Panels, quantity: str, title: str | None) -> Figure:
    first = next(iter(panels.values()))
    first.legend(fontsize=8, title=title, title_fontsize=8)
    for axes in panels.values():
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel(quantity)
    return figure
