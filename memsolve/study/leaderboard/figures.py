"""The figures of a leaderboard: the comparison on each track, and items against steps."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Fit, Summary
from memsolve.report.curves import draw_curve, label_panels, panel_height, panel_width
from memsolve.report.drawing import add_legend, create_panels, escape_mathtext, optimizers
from memsolve.report.emphasis import optimizer_styles
from memsolve.report.names import shorten_names
from memsolve.report.sweep_figure import sweep_figures
from memsolve.study.leaderboard.conclusions import own_optimizers, track_blocks
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.rank_figures import difference_figure, rank_figure, score_figure
from memsolve.study.leaderboard.ranking import scores
from memsolve.study.leaderboard.sentences import BASELINES
from memsolve.study.leaderboard.tracks import CENTRAL_ALPHA, Problem, marks_of, problem_order


def comparison_figures(summary: Summary[LeaderboardPoint]) -> dict[str, Figure]:
    """Scores, ranks, differences to a baseline, and scores against swept settings.

    The baseline is Muon, else AdamW, else the best optimizer. A single optimizer is not compared.

    Returns:
        By file name.
    """
    tracks, own = track_blocks(summary.fits), own_optimizers(summary.fits)
    names = {name for table in tracks.values() for name in table.names}
    if len(names) < 2:
        return {}
    estimates = {track: scores(summary.fits, track) for track in tracks}
    bars = {
        track: {name: each.bar for name, each in by_name.items() if each.bar is not None}
        for track, by_name in estimates.items()
    }
    best = next(iter(tracks.values())).order[0]
    baseline = next((name for name in BASELINES if name in names), best)
    return {
        "leaderboard": score_figure(tracks, estimates, own),
        "leaderboard-ranks": rank_figure(tracks, own),
        "leaderboard-differences": difference_figure(tracks, baseline, own),
        **sweep_figures("leaderboard", "score", bars),
    }


def against_steps(summary: Summary[LeaderboardPoint]) -> Figure:
    """Items against steps on each problem, of the candidate tuned for it.

    Problems are those of several steps, if there are any, at the alpha nearest to 1.5.
    """
    names = shorten_names(optimizers(summary))
    styles = optimizer_styles(summary, own_optimizers(summary.fits))
    titles = _titles(summary)
    figure, panels = create_panels(
        titles,
        size=(panel_width([*names.values()], 2.6), panel_height(len(names), 3.4)),
        axes=("step", "items recovered"),
        share=(False, "row"),
    )
    for fit in summary.fits:
        label = escape_mathtext(names[fit.optimizer])
        for problem, marks, counts, limit in _curves(fit):
            if problem in panels:
                axes = panels[problem]
                if counts.any():
                    draw_curve(axes, label, styles[fit.optimizer], marks, counts, None)
                _mark_limit(axes, limit)
    meanings: dict[str, dict[str, Any]] = {
        "mean over seeds, tuned for the last step": {"ls": "-"},
        "d² / (2 ln N), about what any weight can store": {"color": "black", "lw": 0.8},
    }
    add_legend(figure, meanings | label_panels(panels.values()))
    return figure


def _titles(summary: Summary[LeaderboardPoint]) -> dict[Problem, str]:
    """The problems that are drawn, with their titles."""
    alphas = {fit.alpha for fit in summary.fits}
    central = min(alphas, key=lambda alpha: abs(alpha - CENTRAL_ALPHA))
    problems = {
        problem
        for fit in summary.fits
        if fit.alpha == central
        for point in fit.points
        for problem in point.problems(fit.alpha)
    }
    ordered = sorted(problems, key=lambda problem: (problem.dim, problem_order(problem)))
    titles = {problem: f"{problem.track}, {problem}" for problem in ordered}
    of_several_steps = {problem: titles[problem] for problem in titles if problem.steps > 1}
    return of_several_steps or titles


def _curves(fit: Fit[LeaderboardPoint]) -> list[tuple[Problem, Any, Any, float]]:
    """Each problem with its steps, counts and limit; a run that failed has fewer counts."""
    curves = []
    for point in fit.points:
        columns = point.problems(fit.alpha), point.curves, point.limits
        for problem, curve, limit in zip(*columns, strict=True):
            marks = marks_of(problem.steps)
            length = min(len(marks), len(curve))
            curves.append(
                (problem, np.array(marks[:length], float), np.array(curve[:length]), limit)
            )
    return curves


def _mark_limit(axes: Axes, limit: float) -> None:
    axes.axhline(limit, color="black", lw=0.8)
    axes.set(xscale="log", yscale="log")
