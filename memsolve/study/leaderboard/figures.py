"""The figures of a leaderboard: shares of the best, items against steps, and the profile."""

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
    shades,
)
from memsolve.report.names import shorten_names
from memsolve.report.performance_profile import performance_profile
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import ranking, scores


def shares(summary: Summary[LeaderboardPoint]) -> Figure:
    """Every optimizer's share of the best, over all alphas and at each, the best at the top."""
    overall = ranking(summary.fits)
    names = shorten_names(overall)
    alphas = sorted({fit.alpha for fit in summary.fits})
    title = f"{len(scores(summary.fits))} problems: alpha, d, and number of steps"
    size = 6.0, 0.28 * len(names) + 1.2
    figure, panel_of = create_panels({"all": title}, size=size, axes=("share of the best", ""))
    axes, rows = panel_of["all"], np.arange(len(overall))
    for alpha, color in shades(alphas).items():
        at_alpha = ranking([fit for fit in summary.fits if fit.alpha == alpha])
        points = [
            (at_alpha[name].value, row)
            for name, row in zip(overall, rows, strict=True)
            if name in at_alpha
        ]
        axes.plot(*zip(*points, strict=True), "|", ms=9, mew=2, color=color)
    bars = np.array([estimate.bar or (0, 0, 0) for estimate in overall.values()])
    errors = np.clip([bars[:, 0] - bars[:, 1], bars[:, 2] - bars[:, 0]], 0, None)
    axes.errorbar(bars[:, 0], rows, xerr=errors, fmt="o", ms=5, capsize=3, color="black")
    axes.set_yticks(rows, labels=[escape_mathtext(name) for name in names.values()])
    axes.set(xlim=(0, 1.02), ylim=(len(names) - 0.5, -0.5))
    meanings: dict[str, dict[str, Any]] = {
        "mean over all problems, with its 95% interval over seeds": {
            "marker": "o",
            "ls": "",
            "color": "black",
        }
    }
    for alpha, color in shades(alphas).items():
        mark = {"marker": "|", "ls": "", "ms": 9, "mew": 2, "color": color}
        meanings[f"alpha = {alpha:g}"] = mark
    add_legend(figure, meanings)
    texts = [f"{names[name]} {estimate}" for name, estimate in overall.items()]
    figure.set_label(f"Share of the best, mean over {title}: {'; '.join(texts)}.")
    return figure


def against_steps(summary: Summary[LeaderboardPoint]) -> Figure:
    """Items against steps, of the candidates tuned for the last step."""
    names = shorten_names(optimizers(summary))
    look = curve_styles(names)
    titles = {
        (fit.alpha, point.dim): f"alpha = {fit.alpha:g}, d = {point.dim}"
        for fit in summary.fits
        for point in fit.points
    }
    size = panel_width([*names.values()], 2.6), panel_height(len(names), 3.4)
    axis_labels = "step", "items recovered"
    figure, panel_of = create_panels(titles, size=size, axes=axis_labels, share=(False, False))
    for fit in summary.fits:
        for point in fit.points:
            counts = np.array(point.curve)
            steps, axes = np.arange(1, len(counts) + 1.0), panel_of[fit.alpha, point.dim]
            if counts.any():
                draw_curve(
                    axes,
                    escape_mathtext(names[fit.optimizer]),
                    look[fit.optimizer],
                    steps,
                    counts,
                    None,
                )
            axes.axhline(point.limit, color="black", lw=0.8)
            axes.set(xscale="log", yscale="log")
    for axes in panel_of.values():
        label_ends(axes)
    meanings: dict[str, dict[str, Any]] = {
        "mean over seeds, tuned for the last step": {"ls": "-"},
        "d² / (2 ln N), about what any weight can store": {"color": "black", "lw": 0.8},
    }
    add_legend(figure, meanings)
    return figure


def profile(summary: Summary[LeaderboardPoint]) -> Figure:
    """The performance profile over alphas, d and numbers of steps."""
    problems = scores(summary.fits).values()
    table = {
        name: [
            float(np.mean(by_optimizer[name])) if name in by_optimizer else None
            for by_optimizer in problems
        ]
        for name in ranking(summary.fits)
    }
    return performance_profile(table, "items recovered")
