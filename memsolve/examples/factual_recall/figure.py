"""The figure of the example: facts recovered in head, torso and tail, against steps."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.engine.results.estimate import SHARE
from memsolve.examples.factual_recall.facts import BUCKETS
from memsolve.examples.factual_recall.point import RecallPoint
from memsolve.report.curves import band_legend, draw_mean, label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    MAX_BANDS,
    add_legend,
    create_panels,
    escape_mathtext,
    optimizers,
)
from memsolve.report.emphasis import optimizer_styles
from memsolve.report.names import shorten_names


def recall_figure(summary: Summary[RecallPoint]) -> Figure:
    """The share of each bucket that is recovered, and the share that the prompts contained."""
    names = shorten_names(optimizers(summary))
    styles, with_bands = optimizer_styles(summary), len(names) <= MAX_BANDS
    figure, panels = create_panels(
        _titles(summary),
        size=(panel_width([*names.values()], 2), panel_height(len(names), 3.4)),
        axes=("step", "share of the facts recovered"),
    )
    for fit in summary.fits:
        name, style = escape_mathtext(names[fit.optimizer]), styles[fit.optimizer]
        for point in fit.points:
            marks = np.array(point.marks, dtype=float)
            shares = np.array(point.recovered) / point.bucket_sizes
            expected = np.array(point.expected_distinct) / point.bucket_sizes
            for bucket in range(len(BUCKETS)):
                axes = panels[fit.alpha, fit.batch_size, point.dim, bucket]
                seeds = shares[:, :, bucket]
                draw_mean(axes, name, style, marks, seeds, scale=SHARE, with_band=with_bands)
                axes.plot(marks, expected[:, bucket], color="black", ls="--", lw=0.8)
                axes.set(xscale="log", ylim=(0, 1.02))
    for axes in panels.values():
        label_ends(axes)
    entries: dict[str, dict[str, Any]] = {
        "mean over seeds": {"ls": "-"},
        "in the prompts so far, expected": {"ls": "--", "lw": 0.8, "color": "black"},
    }
    if with_bands:
        entries |= band_legend(len(summary.fits[0].points[0].totals))
    add_legend(figure, entries)
    return figure


def _titles(summary: Summary[RecallPoint]) -> dict[tuple[float, int | None, int, int], str]:
    """Titles of panels by alpha, batch size, `d` and index of the bucket."""
    return {
        (fit.alpha, fit.batch_size, point.dim, index): f"{bucket}, {size} facts\n"
        f"alpha = {fit.alpha:g}, d = {point.dim}, B = {fit.batch_size}"
        for fit in summary.fits
        for point in fit.points
        for index, (bucket, size) in enumerate(zip(BUCKETS, point.bucket_sizes, strict=True))
    }
