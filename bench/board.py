"""The README's leaderboard: the recorded one in a table, and how it was made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import mean
from memsolve.engine.results.load import load_summary
from memsolve.report.names import shorten_names
from memsolve.study.formatting import format_estimate
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.ranking import gaps, rank, ranking, scores

ALPHA = 1.5
"""What is stored is told at this alpha and the largest `d`; the shares are of all of them."""


def recorded() -> Summary[Any]:
    """The leaderboard on record."""
    return load_summary(leaderboard, leaderboard.record)


def table(summary: Summary[Any]) -> str:
    """Markdown: a row an optimizer, the best first, then how it was made."""
    shares, gap = ranking(summary.fits), gaps(summary.fits)
    at_alpha = {fit.optimizer: fit for fit in summary.fits if fit.alpha == ALPHA}
    names = shorten_names(shares)
    last = next(iter(at_alpha.values())).points[-1]
    counts = " | ".join(f"after {steps}" for steps in last.horizons)
    head = (
        f"| | optimizer | share of the best [95%] | behind the one above [95%] | {counts} "
        "| exponent in d | B_80% | time | state |"
    )
    rows = [
        _row(
            [rank(shares, name), f"`{names[name]}`", str(share), gap[name]],
            at_alpha[name],
            summary,
        )
        for name, share in shares.items()
    ]
    return "\n".join([head, "|---:|---|---|---|" + "---|" * 6 + "---:|", *rows, "", _made(summary)])


def _row(cells: list[str], fit: Fit[Any], summary: Summary[Any]) -> str:
    """A row that begins with these cells."""
    point = fit.points[-1]
    critical = fit.points[0].saturating_batch_size
    cells = [
        *cells,
        *(
            format_estimate(mean(seeds)) if any(seeds) else summary.remarks.get(fit.optimizer, "0")
            for seeds in point.recovered
        ),
        str(fit.estimate),
        "?" if critical.value is None else format_estimate(critical),
        f"{np.median(point.time):.1f}" if point.time else "-",
        f"{point.state:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _made(summary: Summary[Any]) -> str:
    """Problems, seeds, time, versions and command."""
    points = [point for fit in summary.fits for point in fit.points]
    problems = scores(summary.fits)
    hours = sum(point.total_seconds for point in points) / 3600
    here = summary.environment
    seeds = len(points[0].recovered[0])
    return (
        f"{len(problems)} problems: alpha = {_told(problems, 0)}, d = {_told(problems, 1)}, after "
        f"{_told(problems, 3)} steps, N = {points[0].num_items}; {seeds} seeds beside the one of "
        f"the tuning; {hours:.1f} hours of {here['device']}, {here['threads']} thread, torch "
        f"{here['torch']}, pytorch_optimizer {here.get('pytorch_optimizer', '-')}; "
        f"`OMP_NUM_THREADS={here['threads']} {summary.command}`"
    )


def _told(problems: Sequence[Any] | dict[Any, Any], place: int) -> str:
    return ", ".join(f"{value:g}" for value in sorted({problem[place] for problem in problems}))
