"""The figures of `damping`: curves, and the largest damping and the overshoot against `B`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from memsolve import theory
from memsolve.engine import Fit, Summary
from memsolve.report.curves import label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    GRAY,
    add_legend,
    alpha_titles,
    create_panels,
    dims,
    escape_mathtext,
    optimizers,
    shades,
)
from memsolve.study.one_step.damping_point import BatchDampings, DampingPoint
from memsolve.study.one_step.damping_threshold import KEPT

HEIGHT, WIDTH = 3.6, 3.0
"""Inches of a panel, without the names of its curves."""

LEVEL: dict[str, Any] = {"color": GRAY, "ls": ":", "lw": 1}


def curves(summary: Summary[DampingPoint]) -> Figure:
    """The share of the undamped count against the damping over the law's, at each `d`."""
    axes_titles = "damping, relative, over d^-alpha", "share of the undamped count"
    figure, panels = _panels(summary, axes_titles)
    for axes, alpha, point, style in _points(summary, panels):
        dampings = np.exp2(point.octaves) / theory.largest_damping(alpha, point.dim)
        shares = np.mean(point.recovered, 1) / np.mean(point.undamped)
        axes.plot(dampings[::-1], shares[::-1], "o-", ms=3.5, **style)
    for axes in panels.values():
        axes.set(xscale="log")
        axes.axhline(KEPT, **LEVEL)
        axes.set_ylim(bottom=0)
    return _finish(figure, panels, {f"{KEPT:.0%} of the undamped count": LEVEL})


def against_batch(summary: Summary[DampingPoint]) -> Figure:
    """The largest damping against the batch size, at each `d`, with both laws."""
    figure, panels = _panels(summary, ("batch size B", "largest damping, relative"))
    has_law = all(fit.law is not None for fit in summary.fits)
    for axes, alpha, point, style in _points(summary, panels):
        if point.batches is not None:
            _draw_largest(axes, point.batches, style)
            if has_law:
                _draw_batch_laws(axes, alpha, point, point.batches.sizes, style["color"])
    for axes in panels.values():
        axes.set(xscale="log", yscale="log")
    marks: dict[str, dict[str, Any]] = {"estimate and 95% interval over seeds": {"marker": "o"}}
    if has_law:
        marks["max(d^-alpha, 1/B), which is enough (published)"] = {"ls": "--", "lw": 1}
        marks["the largest on batches (derived), and d^-alpha"] = {"ls": ":", "lw": 1.5}
    return _finish(figure, panels, marks)


def overshoot(summary: Summary[DampingPoint]) -> Figure:
    """Items recovered from batches over those of the population, undamped and damped."""
    axes_titles = "batch size B", "recovered items, of those on the population"
    figure, panels = _panels(summary, axes_titles)
    for axes, _, point, style in _points(summary, panels):
        if (batches := point.batches) is None:
            continue
        plateau = np.mean(point.undamped)
        axes.plot(batches.sizes, np.array(batches.undamped) / plateau, "o-", ms=3.5, **style)
        if point.damping.value is not None:
            following = np.array(batches.following) / (KEPT * plateau)
            axes.plot(batches.sizes, following, "--", color=style["color"])
    for axes in panels.values():
        axes.set(xscale="log")
        axes.axhline(1, **LEVEL)
        axes.set_ylim(bottom=0)
    marks = {"undamped": {"marker": "o"}, "damping c max(d^-alpha, 1/B)": {"ls": "--"}}
    return _finish(figure, panels, marks)


def _panels(
    summary: Summary[DampingPoint], axes_titles: tuple[str, str]
) -> tuple[Figure, dict[float, Axes]]:
    """A panel for each alpha."""
    titles = alpha_titles(summary)
    names = [_name(summary, fit, point) for fit in summary.fits for point in fit.points]
    size = panel_width(names, WIDTH), panel_height(len(names) // len(titles), HEIGHT)
    return create_panels(titles, size=size, axes=axes_titles, share=(True, True))


def _name(summary: Summary[DampingPoint], fit: Fit[DampingPoint], point: DampingPoint) -> str:
    """The name of a curve: its `d`, and its study where several are merged."""
    several = len(optimizers(summary)) > 1
    return f"d = {point.dim}" + (f", {escape_mathtext(fit.optimizer)}" if several else "")


def _points(
    summary: Summary[DampingPoint], panels: Mapping[float, Axes]
) -> Iterator[tuple[Axes, float, DampingPoint, dict[str, Any]]]:
    """Each point with its panel and alpha, and the color and label of its curve."""
    shade = shades(dims(summary))
    for fit in summary.fits:
        for point in fit.points:
            style = {"color": shade[point.dim], "label": _name(summary, fit, point)}
            yield panels[fit.alpha], fit.alpha, point, style


def _draw_largest(axes: Axes, batches: BatchDampings, style: Mapping[str, Any]) -> None:
    """Draw the largest damping at each batch size where it is identified."""
    pairs = zip(batches.sizes, batches.dampings, strict=True)
    bars = {size: bar for size, each in pairs if (bar := each.bar) is not None}
    if bars:
        values, lows, highs = np.array([*bars.values()]).T
        errors = np.clip([values - lows, highs - values], 0, None)
        axes.errorbar([*bars], values, errors, fmt="o", ms=3.5, capsize=2, **style)


def _draw_batch_laws(
    axes: Axes, alpha: float, point: DampingPoint, batch_sizes: list[int], color: Any
) -> None:
    """Draw the published and the derived law, with constants of one."""
    sizes = np.geomspace(batch_sizes[0], batch_sizes[-1], 100)
    published = [theory.largest_damping(alpha, point.dim, size) for size in sizes]
    largest = [theory.batch_damping(alpha, point.dim, point.num_items, size) for size in sizes]
    derived = np.maximum(largest, theory.largest_damping(alpha, point.dim))
    axes.plot(sizes, published, "--", lw=1, color=color, alpha=0.8)
    axes.plot(sizes[derived <= 1], derived[derived <= 1], ":", lw=1.5, color=color)


def _finish(
    figure: Figure, panels: Mapping[float, Axes], marks: Mapping[str, Mapping[str, Any]]
) -> Figure:
    """Write the names at the ends of the curves, and explain the marks."""
    for axes in panels.values():
        axes.xaxis.set_minor_formatter(NullFormatter())
        label_ends(axes)
    add_legend(figure, marks)
    return figure
