"""Compare the order of the optimizers on the example with that of a leaderboard.

`python -m memsolve.examples.factual_recall.order_agreement results/factual-recall` prints it for a
finished run and the recorded leaderboard.
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from memsolve_kernels.errors import InputError
from rich.console import Console
from rich.table import Table

from memsolve.engine import Summary
from memsolve.engine.results.load import load_summary
from memsolve.examples.factual_recall.comparison import study
from memsolve.examples.factual_recall.point import RecallPoint
from memsolve.study.leaderboard.agreement import Agreement, agreement_by_track, order_agreement
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import counts_by_problem, tracks_of
from memsolve.study.leaderboard.tracks import Problem


def agreement_by_problem(
    recall: Summary[RecallPoint], board: Summary[LeaderboardPoint]
) -> dict[Problem, Agreement]:
    """Compare the facts recovered on the example with the items recovered on each problem.

    Each problem is compared with the widest model of the same alpha.

    Raises:
        InputError: no alpha, or fewer than two optimizers, in common.
    """
    totals = totals_by_alpha(recall)
    agreements = {
        problem: order_agreement(totals[problem.alpha], means)
        for problem, means in means_by_problem(board).items()
        if problem.alpha in totals
    }
    if not agreements:
        raise InputError(f"the leaderboard has none of the alphas {sorted(totals)}")
    return agreements


def totals_by_alpha(recall: Summary[RecallPoint]) -> dict[float, dict[str, float]]:
    """Facts recovered with the widest model by alpha and optimizer, mean over seeds."""
    totals: dict[float, dict[str, float]] = {}
    for fit in recall.fits:
        totals.setdefault(fit.alpha, {})[fit.optimizer] = float(fit.points[-1].totals.mean())
    return totals


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
    """Print the agreement with every track of the leaderboard, then with every problem."""
    recall, other = load_summary(study, folder), load_summary(leaderboard, board)
    agreements = agreement_by_problem(recall, other)
    rows = [
        *(
            (track, f"score, with the facts at alpha = {alpha:g}", each)
            for alpha, totals in totals_by_alpha(recall).items()
            for track, each in agreement_by_track(totals, other.fits).items()
        ),
        *((problem.track, str(problem), each) for problem, each in agreements.items()),
    ]
    table = Table("track", "problem", "optimizers", "tau [95%]", "p")
    for track, problem, agreement in rows:
        table.add_row(
            track, problem, str(agreement.num_common), str(agreement), f"{agreement.p:.2g}"
        )
    Console().print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"memsolve: error: {error}")
