"""The figures of a leaderboard: scores in each track, and items against steps."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.report.curves import draw_curve, label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    add_legend,
    create_panels,
    curve_styles,
    escape_mathtext,
    optimizers,
)
from memsolve.report.names import shorten_names
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import scores, tracks_of
from memsolve.study.leaderboard.tracks import RANKED, marks_of


def track_scores(summary: Summary[LeaderboardPoint]) -> Figure:
    """Every optimizer's score in each track with its interval, the best at the top."""
    tracks = [track for track in tracks_of(summary.fits) if track in RANKED]
    short = shorten_names(optimizers(summary))
    size = 4.0, 0.24 * len(short) + 1.2
    figure, panel_of = create_panels(
        {track: track for track in tracks}, size=size, axes=("score", ""), share=(False, False)
    )
    texts = []
    for track, axes in panel_of.items():
        estimates = scores(summary.fits, track)
        rows = np.arange(len(estimates))
        for row, estimate in zip(rows, estimates.values(), strict=True):
            if estimate.bar is not None:
                value, low, high = estimate.bar
                axes.plot([low, high], [row, row], color="black", lw=1)
                axes.plot(value, row, "o", ms=5, color="black")
        axes.set_yticks(rows, labels=[escape_mathtext(short[name]) for name in estimates])
        axes.set(xlim=(0, None), ylim=(len(rows) - 0.5, -0.5))
        named = [f"{short[name]} {estimate}" for name, estimate in estimates.items()]
        texts.append(f"{track}: {'; '.join(named)}")
    meanings: dict[str, dict[str, Any]] = {
        "share of d² / (2 ln N), mean over problems, with its 95% interval over seeds": {
            "marker": "o",
            "ls": "-",
            "color": "black",
        }
    }
    add_legend(figure, meanings)
    figure.set_label(f"Scores. {'. '.join(texts)}.")
    return figure


def against_steps(summary: Summary[LeaderboardPoint]) -> Figure:
    """Items against steps on every problem of several steps, of the candidate tuned for it."""
    names = shorten_names(optimizers(summary))
    look = curve_styles(names)
    titles = {
        problem: f"{problem.track}, {problem}"
        for fit in summary.fits
        for point in fit.points
        for problem in point.problems(fit.alpha)
        if problem.steps > 1
    }
    if not titles:
        titles = {
            problem: f"{problem.track}, {problem}"
            for fit in summary.fits
            for point in fit.points
            for problem in point.problems(fit.alpha)
        }
    size = panel_width([*names.values()], 2.6), panel_height(len(names), 3.4)
    axis_labels = "step", "items recovered"
    figure, panel_of = create_panels(titles, size=size, axes=axis_labels, share=(False, False))
    for fit in summary.fits:
        for point in fit.points:
            for problem, curve, limit in zip(
                point.problems(fit.alpha), point.curves, point.limits, strict=True
            ):
                if problem not in panel_of:
                    continue
                axes, counts = panel_of[problem], np.array(curve)
                marks = np.array(marks_of(problem.steps)[: len(counts)], dtype=float)
                if counts.any():
                    label = escape_mathtext(names[fit.optimizer])
                    draw_curve(axes, label, look[fit.optimizer], marks, counts, None)
                axes.axhline(limit, color="black", lw=0.8)
                axes.set(xscale="log", yscale="log")
    for axes in panel_of.values():
        label_ends(axes)
    meanings: dict[str, dict[str, Any]] = {
        "mean over seeds, tuned for the last step": {"ls": "-"},
        "d² / (2 ln N), about what any weight can store": {"color": "black", "lw": 0.8},
    }
    add_legend(figure, meanings)
    return figure
