"""The figures of the tuning: what every candidate recovered, and which one was selected."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from memsolve.engine import Summary
from memsolve.report.drawing import (
    add_legend,
    create_panels,
    curve_styles,
    escape_mathtext,
    optimizers,
    shades,
)
from memsolve.report.names import shorten_names
from memsolve.study.training.grid import mean_lr
from memsolve.study.training.point import DynamicsPoint

SHARES = 0.0, 0.25, 0.5, 0.75, 0.9, 1.0
"""Bounds of the shades: items recovered, as a share of the best candidate's."""

STAR: dict[str, Any] = {"marker": "*", "ls": "", "ms": 12, "mec": "black", "mfc": "none"}


def tuning_figures(summary: Summary[DynamicsPoint]) -> dict[str, Figure]:
    """The search of the geometric schedule, and the learning rates of the others, if any."""
    schedules = {
        name for fit in summary.fits for point in fit.points for name in point.trial_schedules
    }
    figures = {"dynamics-search": search(summary)} if "geometric" in schedules else {}
    if others := sorted(schedules - {"geometric"}):
        figures["dynamics-tuning"] = tuning(summary, others)
    return figures


def search(summary: Summary[DynamicsPoint]) -> Figure:
    """Every candidate of the geometric schedule, by its mean learning rate and its ratio."""
    titled = _titled(summary)
    titles = {title: title for title in titled}
    labels = "mean learning rate over the steps", "ratio of successive learning rates"
    figure, panel_of = create_panels(titles, size=(2.15, 2.4), axes=labels, share=(False, True))
    bins = list(pairwise(SHARES))
    shade = shades(bins)
    for title, axes in panel_of.items():
        point = titled[title]
        steps = len(point.recovered)
        candidates = [
            (candidate, count)
            for candidate, count in zip(point.candidates, point.trial_recovered, strict=True)
            if candidate.schedule == "geometric"
        ]
        best = max(1.0, *(count for _, count in candidates))
        for candidate, count in candidates:
            index = np.searchsorted(SHARES[1:-1], count / best, side="right")
            color = shade[bins[index]]
            axes.plot(mean_lr(candidate, steps), candidate.ratio, "o", ms=5, color=color)
        if point.schedule == "geometric":
            axes.plot(mean_lr(point.candidate, steps), point.ratio, **STAR)
        axes.axhline(1, color="black", lw=0.8)
        axes.set(xscale="log", yscale="log")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.minorticks_off()
    entries = {
        f"{low:.0%} to {high:.0%} of the best": {"marker": "o", "ls": "", "color": shade[low, high]}
        for low, high in bins
    }
    add_legend(figure, entries | {"selected": STAR})
    return figure


def tuning(summary: Summary[DynamicsPoint], schedules: Iterable[str]) -> Figure:
    """Items recovered by every candidate of the other schedules, against its learning rate."""
    titled = _titled(summary)
    titles = {title: title for title in titled}
    labels = "learning rate", "items recovered"
    figure, panel_of = create_panels(titles, size=(2.15, 2.1), axes=labels, share=(False, False))
    looks = curve_styles(schedules)
    for title, axes in panel_of.items():
        point = titled[title]
        trial_schedules = np.array(point.trial_schedules)
        for schedule, look in looks.items():
            lrs = np.array(point.trial_lrs)[trial_schedules == schedule]
            counts = np.array(point.trial_recovered)[trial_schedules == schedule]
            axes.plot(lrs, counts, look.marker, ls="-", ms=3, color=look.color, label=schedule)
        if point.schedule in looks:
            axes.plot(point.lr, np.mean(point.plateau), **STAR)
        axes.set(xscale="log")
        axes.minorticks_off()
    add_legend(figure, {name: look._asdict() for name, look in looks.items()} | {"selected": STAR})
    return figure


def _titled(summary: Summary[DynamicsPoint]) -> dict[str, DynamicsPoint]:
    """Every point by the title of its panel."""
    names = shorten_names(optimizers(summary))
    titled = {}
    for fit in summary.fits:
        name = escape_mathtext(names[fit.optimizer])
        batch = "" if fit.batch_size is None else f", B = {fit.batch_size}"
        for point in fit.points:
            edge = f", {' and '.join(point.edges)} tried" if point.edges else ""
            titled[f"{name}, alpha = {fit.alpha:g}, d = {point.dim}{batch}{edge}"] = point
    return titled
