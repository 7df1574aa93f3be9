"""How recall grows in head, torso and tail."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.examples.factual_recall.facts import BUCKETS
from memsolve.examples.factual_recall.outcome import Recalled
from memsolve.report.curves import draw_curve, label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    MAX_BANDS,
    add_legend,
    create_panels,
    curve_styles,
    escape_mathtext,
    optimizers,
)
from memsolve.report.names import shorten_names


def by_bucket(summary: Summary[Recalled]) -> Figure:
    """The share of each bucket's facts that is recalled, against steps, beside what was met."""
    names = shorten_names(optimizers(summary))
    look, few = curve_styles(names), len(names) <= MAX_BANDS
    titles = {
        (fit.alpha, fit.quantity, point.dim, place): f"{bucket}, {size} facts\n"
        f"alpha = {fit.alpha:g}, d = {point.dim}, {fit.quantity.partition(' at ')[2]}"
        for fit in summary.fits
        for point in fit.points
        for place, (bucket, size) in enumerate(zip(BUCKETS, point.sizes, strict=True))
    }
    size = panel_width([*names.values()], 2), panel_height(len(names), 3.4)
    figure, found = create_panels(titles, size=size, axes=("step", "share of the facts recalled"))
    for fit in summary.fits:
        for point in fit.points:
            marks, shares = np.array(point.marks, dtype=float), np.array(point.recalled)
            shares = shares / point.sizes
            for place, size_of in enumerate(point.sizes):
                axes = found[fit.alpha, fit.quantity, point.dim, place]
                here = shares[:, :, place]
                band = (here.min(1), here.max(1)) if few else None
                name = escape_mathtext(names[fit.optimizer])
                draw_curve(axes, name, look[fit.optimizer], marks, here.mean(1), band)
                met = np.array(point.met)[:, place] / size_of
                axes.plot(marks, met, color="black", ls="--", lw=0.8)
                axes.set(xscale="log", ylim=(0, 1.02))
    for axes in found.values():
        label_ends(axes)
    meanings: dict[str, dict[str, Any]] = {
        "mean over seeds": {"ls": "-"},
        "asked for by then, expected": {"ls": "--", "lw": 0.8, "color": "black"},
    }
    if few:
        meanings["range over seeds"] = {"lw": 6, "alpha": 0.3}
    add_legend(figure, meanings)
    return figure
