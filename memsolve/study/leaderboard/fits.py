"""The points of a leaderboard from its runs, and the exponent of one step."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.study.leaderboard.grid import LeaderboardGrid
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.tracks import Problem, problem_order
from memsolve.study.leaderboard.trial_run import LeaderboardRun, Runs
from memsolve.study.leaderboard.tuning import LeaderboardKey, select, trials_of

ONE_STEP = "one-step"
"""The track whose counts give the exponent in `d`."""


def leaderboard_point(
    grid: LeaderboardGrid, label: str, alpha: float, dim: int, runs: Mapping[LeaderboardKey, Runs]
) -> LeaderboardPoint:
    """The point of an optimizer at one alpha and `d`.

    Args:
        grid: of the study.
        label: of the optimizer.
        alpha: exponent of the frequencies.
        dim: embedding dimension `d`.
        runs: all runs, by key.
    """
    cell = label, alpha, dim
    keys = sorted(
        (key for key in runs if (key.optimizer, key.problem.alpha, key.problem.dim) == cell),
        key=lambda key: problem_order(key.problem),
    )
    selections = [select(runs[key]) for key in keys]
    shown = [
        [
            runs[key][trial]
            for trial in trials_of(key, selection.candidate, grid.seeds_shown, shown=True)
        ]
        for key, selection in zip(keys, selections, strict=True)
    ]
    candidates = [selection.candidate for selection in selections]
    states = [run.state for run in chain.from_iterable(shown) if run.state is not None]
    return LeaderboardPoint(
        dim=dim,
        seeds=[*grid.seeds_shown],
        tracks=[key.problem.track for key in keys],
        num_items=[key.problem.num_items for key in keys],
        batch_sizes=[key.problem.batch_size for key in keys],
        steps=[key.problem.steps for key in keys],
        schedules=[candidate.schedule for candidate in candidates],
        lrs=[candidate.lr for candidate in candidates],
        ratios=[candidate.ratio for candidate in candidates],
        momenta=[candidate.momentum for candidate in candidates],
        at_edge=[bool(selection.edges) for selection in selections],
        candidates=[selection.num_candidates for selection in selections],
        recovered=[[run.recovered for run in seeds] for seeds in shown],
        loss=[[run.loss for run in seeds] for seeds in shown],
        diverged=[[run.diverged for run in seeds] for seeds in shown],
        failed=[[bool(run.failed) for run in seeds] for seeds in shown],
        curves=[mean_curve(seeds) for seeds in shown],
        seconds=[seeds[0].seconds for seeds in shown],
        state=max(states, default=None),
        core_seconds=sum(run.core_seconds for key in keys for run in runs[key].values()),
    )


def mean_curve(runs: Sequence[LeaderboardRun]) -> list[float]:
    """Items recovered at the marks of runs, mean over seeds; 0 after the end of a run."""
    longest = max(len(run.curve) for run in runs)
    padded = [run.curve + [0] * (longest - len(run.curve)) for run in runs]
    return [float(count) for count in np.mean(padded, axis=0)]


def one_step_exponent(points: Sequence[LeaderboardPoint], alpha: float) -> Estimate:
    """The exponent in `d` of the items recovered after one step."""
    counts: dict[Problem, list[int]] = {
        problem: recovered
        for point in points
        for problem, recovered in zip(point.problems(alpha), point.recovered, strict=True)
        if problem.track == ONE_STEP
    }
    if not counts:
        return Estimate(None, note="no problem of one step")
    samples = [np.array(recovered, dtype=float) for recovered in counts.values()]
    dims = [problem.dim for problem in counts]
    return power_law_exponent(dims, samples, [lambda draws: draws.mean(1)] * len(samples))
