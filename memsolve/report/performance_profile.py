"""Performance profiles: how close each optimizer comes to the best one, over many problems."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from memsolve.report.curves import Floats, label_ends, panel_height, panel_width
from memsolve.report.drawing import add_legend, create_panels, curve_styles, escape_mathtext
from memsolve.report.names import shorten_names

MAX_RATIO = 4.0
"""The largest ratio to the best that is drawn, as in AlgoPerf."""


def ratios_to_best(scores: Mapping[str, Sequence[float | None]]) -> dict[str, Floats]:
    """The best score of each problem over that of each optimizer, (P,), at least 1.

    Args:
        scores: by optimizer, its score on every problem, in the same order; more is better. None,
            NaN and scores of 0 or less mean that the problem is not solved.

    Returns:
        By optimizer; `inf` where it has not solved the problem.
    """
    table = np.array([list(row) for row in scores.values()], dtype=float)
    solved = table > 0  # NaN is not
    best = np.max(table, axis=0, where=solved, initial=0)
    ratios = np.divide(best, table, where=solved, out=np.full(table.shape, np.inf))
    return dict(zip(scores, ratios, strict=True))


def performance_profile(scores: Mapping[str, Sequence[float | None]], quantity: str) -> Figure:
    """The share of problems on which an optimizer comes within a factor of the best.

    By Dolan and More (2002), *Benchmarking optimization software with performance profiles*: with
    `r` the best score of a problem over that of an optimizer, `rho(tau)` is the share of problems
    with `r <= tau`. Its value at 1 is the share of problems on which the optimizer is the best, or
    equal to it; its values further right show how often it is close to the best.

    Args:
        scores: see `ratios_to_best`.
        quantity: name of the scores, for the axis.
    """
    names = shorten_names(scores)
    styles = curve_styles(names)
    figure, panels = create_panels(
        {"all": f"{len(next(iter(scores.values())))} problems"},
        size=(panel_width([*names.values()], 4.5), panel_height(len(names), 4)),
        axes=(f"tau: a factor of the best in {quantity}", "share of problems within tau"),
    )
    axes = panels["all"]
    ratios_by_name = ratios_to_best(scores)
    every = np.concatenate([[1, MAX_RATIO], *ratios_by_name.values()])
    steps = np.unique(every[every <= MAX_RATIO])
    for name, ratios in ratios_by_name.items():
        axes.plot(
            steps,
            np.array([np.mean(ratios <= step) for step in steps]),
            color=styles[name].color,
            marker=styles[name].marker,
            ms=4,
            lw=1.2,
            markevery=0.3,
            drawstyle="steps-post",
            label=escape_mathtext(names[name]),
        )
    axes.set(xscale="log", xlim=(1, MAX_RATIO), ylim=(-0.02, 1.02))
    axes.set_xticks(
        ticks := [1, 1.25, 1.5, 2, 3, MAX_RATIO], labels=[f"{tick:g}" for tick in ticks]
    )
    axes.minorticks_off()
    label_ends(axes)
    meaning = "problems on which the best has at most tau times as much (Dolan and Moré 2002)"
    add_legend(figure, {meaning: {"ls": "-"}})
    return figure
