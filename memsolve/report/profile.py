"""Performance profiles: who is how near to the best, over many problems at once."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from memsolve.report.curves import Floats, height, label_ends, width
from memsolve.report.drawing import key, looks, panels, plain
from memsolve.report.names import short

FAR = 4.0
"""Ratios to the best are drawn up to here, as AlgoPerf does."""


def ratios(scores: Mapping[str, Sequence[float | None]]) -> dict[str, Floats]:
    """The best score of each problem over each optimizer's, (P,) at least 1.

    Args:
        scores: by optimizer, what it has come to on every problem, in one order; more is better.
            None, NaN and what is not above 0 count as not solved.

    Returns:
        By optimizer; `inf` where it has not solved the problem.
    """
    table = np.array([list(row) for row in scores.values()], dtype=float)
    solved = table > 0  # NaN is not
    best = np.max(table, axis=0, where=solved, initial=0)
    found = np.divide(best, table, where=solved, out=np.full(table.shape, np.inf))
    return dict(zip(scores, found, strict=True))


def performance_profile(scores: Mapping[str, Sequence[float | None]], quantity: str) -> Figure:
    """The share of problems on which an optimizer comes within a factor of the best.

    Of Dolan and More (2002), *Benchmarking optimization software with performance profiles*: with
    `r` the best score of a problem over that of an optimizer, `rho(tau)` is the share of problems
    with `r <= tau`. At 1 it says how often an optimizer is the best, or as good; to the right, how
    often it is not far from it.

    Args:
        scores: as `ratios` takes them.
        quantity: what is scored, for the axis.
    """
    names = short(scores)
    look = looks(names)
    figure, found = panels(
        {"all": f"{len(next(iter(scores.values())))} problems"},
        size=(width([*names.values()], 4.5), height(len(names), 4)),
        axes=(f"tau: a factor of the best in {quantity}", "share of problems within tau"),
    )
    axes = found["all"]
    worse_by_name = ratios(scores)
    every = np.concatenate([[1, FAR], *worse_by_name.values()])
    steps = np.unique(every[every <= FAR])
    for name, worse in worse_by_name.items():
        shares = np.array([np.mean(worse <= step) for step in steps])
        color, marker = look[name]
        axes.plot(
            steps,
            shares,
            color=color,
            marker=marker,
            ms=4,
            lw=1.2,
            markevery=0.3,
            drawstyle="steps-post",
            label=plain(names[name]),
        )
    axes.set(xscale="log", xlim=(1, FAR), ylim=(-0.02, 1.02))
    axes.set_xticks(at := [1, 1.25, 1.5, 2, 3, FAR], labels=[f"{ratio:g}" for ratio in at])
    axes.minorticks_off()
    label_ends(axes)
    meaning = "problems on which the best has at most tau times as much (Dolan and Moré 2002)"
    key(figure, {meaning: {"ls": "-"}})
    return figure
