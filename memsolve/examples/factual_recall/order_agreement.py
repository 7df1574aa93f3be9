"""Compare the order of the optimizers on the example with that of a leaderboard.

`python -m memsolve.examples.factual_recall.order_agreement results/factual-recall` prints it for a
finished run and the recorded leaderboard.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from memsolve_kernels.errors import InputError
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from memsolve.engine import Summary
from memsolve.engine.results.load import load_summary
from memsolve.examples.factual_recall.comparison import study
from memsolve.examples.factual_recall.point import RecallPoint
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import counts_by_problem, tracks_of
from memsolve.study.leaderboard.tracks import Problem


class Agreement(NamedTuple):
    """The rank correlation of two scores of the same optimizers.

    Attributes:
        tau: Kendall's tau-b: 1 for the same order, 0 for unrelated orders, -1 for reversed ones;
            NaN if all values of a score are equal.
        p: probability of a tau at least as far from 0 for unrelated orders.
        num_common: number of optimizers with both scores.
    """

    tau: float
    p: float
    num_common: int


def order_agreement(first: Mapping[str, float], second: Mapping[str, float]) -> Agreement:
    """The agreement of two scores by optimizer, over the optimizers that have both.

    Raises:
        InputError: fewer than two optimizers have both.
    """
    common = [name for name in first if name in second]
    if len(common) < 2:
        raise InputError(
            f"{len(common)} optimizers are in both {', '.join(first)} and {', '.join(second)}; "
            "expected at least two, under the same names"
        )
    tau, p = kendalltau([first[name] for name in common], [second[name] for name in common])
    return Agreement(float(tau), float(p), len(common))


def agreement_by_problem(
    recall: Summary[RecallPoint], board: Summary[LeaderboardPoint]
) -> dict[Problem, Agreement]:
    """Compare the facts recovered on the example with the items recovered on each problem.

    Each problem is compared with the widest model of the same alpha.

    Raises:
        InputError: no alpha, or fewer than two optimizers, in common.
    """
    totals: dict[float, dict[str, float]] = {}
    for fit in recall.fits:
        totals.setdefault(fit.alpha, {})[fit.optimizer] = float(fit.points[-1].totals.mean())
    agreements = {
        problem: order_agreement(totals[problem.alpha], means)
        for problem, means in means_by_problem(board).items()
        if problem.alpha in totals
    }
    if not agreements:
        raise InputError(f"the leaderboard has none of the alphas {sorted(totals)}")
    return agreements


def means_by_problem(board: Summary[LeaderboardPoint]) -> dict[Problem, dict[str, float]]:
    """Items recovered by problem and optimizer, mean over seeds."""
    means: dict[Problem, dict[str, float]] = {}
    for track in tracks_of(board.fits):
        for name, by_problem in counts_by_problem(board.fits, track).items():
            for problem, counts in by_problem.items():
                means.setdefault(problem, {})[name] = float(np.mean(counts))
    return means


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run of the example.")],
    board: Annotated[Path, typer.Option(help="Folder of a leaderboard.")] = leaderboard.record,
) -> None:
    """Print the agreement of the orders for every problem of the leaderboard."""
    table = Table("track", "problem", "optimizers", "tau", "p")
    agreements = agreement_by_problem(load_summary(study, folder), load_summary(leaderboard, board))
    for problem, agreement in agreements.items():
        table.add_row(
            problem.track,
            str(problem),
            str(agreement.num_common),
            f"{agreement.tau:.2f}",
            f"{agreement.p:.2g}",
        )
    Console().print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"memsolve: error: {error}")
