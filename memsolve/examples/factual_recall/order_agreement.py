"""Whether the leaderboard's order carries over to the example.

`python -m memsolve.examples.factual_recall.beside results/factual-recall` says it of a finished run
and the recorded leaderboard.
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
from memsolve.examples.factual_recall.outcome import Recalled
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import Problem, scores


class Agreement(NamedTuple):
    """How far two orders of the same optimizers agree.

    Attributes:
        tau: Kendall's, with ties (tau-b): 1 where they are the same, 0 where one tells nothing of
            the other, -1 where they are reversed; NaN where one of them is all ties.
        p: the chance of a tau so far from 0 if one order told nothing of the other.
        common: how many optimizers are in both.
    """

    tau: float
    p: float
    common: int


def agreement(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Agreement:
    """Of two scores by optimizer, over those that both have.

    Raises:
        InputError: fewer than two are in both.
    """
    common = [name for name in ours if name in theirs]
    if len(common) < 2:
        raise InputError(
            f"{len(common)} optimizers are in both {', '.join(ours)} and {', '.join(theirs)}; "
            "expected at least two, under the same names"
        )
    tau, p = kendalltau([ours[name] for name in common], [theirs[name] for name in common])
    return Agreement(float(tau), float(p), len(common))


def by_problem(
    ours: Summary[Recalled], board: Summary[LeaderboardPoint]
) -> dict[Problem, Agreement]:
    """Facts recalled in the end beside items stored, at each alpha, `d` and number of steps.

    Of ours it is the widest model of the same alpha.

    Raises:
        InputError: no alpha, or fewer than two optimizers, in common.
    """
    recalled: dict[float, dict[str, float]] = {}
    for fit in ours.fits:
        recalled.setdefault(fit.alpha, {})[fit.optimizer] = float(fit.points[-1].totals.mean())
    found = {
        problem: agreement(
            recalled[problem[0]], {name: float(np.mean(of)) for name, of in stored.items()}
        )
        for problem, stored in scores(board.fits).items()
        if problem[0] in recalled
    }
    if not found:
        raise InputError(f"the leaderboard has none of the alphas {sorted(recalled)}")
    return found


def main(
    folder: Annotated[Path, typer.Argument(help="Of a finished run of the example.")],
    board: Annotated[Path, typer.Option(help="Folder of a leaderboard.")] = leaderboard.record,
) -> None:
    """Print how far the leaderboard's order carries over."""
    table = Table("alpha", "d", "N", "steps", "optimizers", "tau", "p")
    for problem, found in by_problem(
        load_summary(study, folder), load_summary(leaderboard, board)
    ).items():
        place = [f"{number:g}" for number in problem]
        table.add_row(*place, str(found.common), f"{found.tau:.2f}", f"{found.p:.2g}")
    Console().print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"memsolve: error: {error}")
