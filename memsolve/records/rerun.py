"""Running the selected candidates of a record again, on the seeds that it shows."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

from memsolve.engine.execution.choose import default_runner
from memsolve.engine.execution.remote import RemoteRunner
from memsolve.engine.prepare import Prepared, is_usable, prepare
from memsolve.engine.progress import bar
from memsolve.engine.run import make_measurement
from memsolve.faults import StepError
from memsolve.records.record import Record
from memsolve.study.leaderboard.candidates import LeaderboardCandidate
from memsolve.study.leaderboard.grid import LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.leaderboard import LeaderboardStudy
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.tracks import Problem, flops
from memsolve.study.leaderboard.trial_run import LeaderboardRun, Runs
from memsolve.study.leaderboard.tuning import LeaderboardKey, trials_of

BUDGET = 3e12
"""Flops of the problems that are run again by default, beyond the cheapest one of each track."""


class RecordedProblem(NamedTuple):
    """A problem of a record.

    Attributes:
        problem: that was measured.
        trials: (S,) the runs that the record shows, one for each seed.
        recovered: (S,) items recovered.
        loss: (S,) population loss after the last step; None where it is not finite.
    """

    problem: Problem
    trials: list[LeaderboardTrial]
    recovered: list[int]
    loss: list[float | None]

    @property
    def flops(self) -> float:
        """About how many flops all its runs take."""
        return flops(self.problem) * len(self.trials)


class RerunStudy(LeaderboardStudy):
    """The leaderboard without tuning."""

    def next_cells(self, grid: LeaderboardGrid, results: Runs) -> list[LeaderboardTrial]:
        """None: the cells of a record are all that is measured."""
        return []


@dataclass(frozen=True)
class Rerun:
    """The results of runs, and where they ran.

    Attributes:
        prepared: the optimizer and the environment.
        runs: the result of every trial.
    """

    prepared: Prepared[LeaderboardGrid]
    runs: Mapping[LeaderboardTrial, LeaderboardRun]


def recorded_problems(record: Record) -> list[RecordedProblem]:
    """The problems of a record, in its order.

    Raises:
        InputError: fits that this version does not read.
    """
    return [
        _recorded_problem(record.name, point, index, problem)
        for fit in record.load_fits()
        for point in fit.points
        for index, problem in enumerate(point.problems(fit.alpha))
    ]


def selected_candidate(point: LeaderboardPoint, index: int) -> LeaderboardCandidate:
    """The candidate that was selected on a problem of a point."""
    return LeaderboardCandidate(
        point.schedules[index], point.lrs[index], point.ratios[index], point.momenta[index]
    )


def smallest(problems: Sequence[RecordedProblem], budget: float = BUDGET) -> list[RecordedProblem]:
    """The cheapest problem of each track, and further ones, by cost, within a budget of flops."""
    by_cost = sorted(problems, key=lambda each: each.flops)
    cheapest = {each.problem.track: each for each in reversed(by_cost)}
    chosen = list(cheapest.values())
    total = sum(each.flops for each in chosen)
    for each in by_cost:
        if each not in chosen and total + each.flops <= budget:
            chosen.append(each)
            total += each.flops
    return [each for each in problems if each in chosen]


def rerun(
    record: Record, problems: Sequence[RecordedProblem], executor: Executor | None = None
) -> Rerun:
    """Run the trials of some problems of a record again.

    Raises:
        InputError: the optimizer cannot be used here.
        MachineError: the machine failed.
    """
    study = RerunStudy()
    device = str(record.grid.get("device"))
    changes = {"optimizers": [record.name], "device": device if is_usable(device) else "auto"}
    grid = LeaderboardGrid.from_json({**record.grid, **changes})
    trials = [trial for each in problems for trial in each.trials]
    trials.sort(key=lambda trial: trial.memory)
    with default_runner(study, grid, None) as here:
        remote = None if executor is None else RemoteRunner(executor, study, grid, None)
        prepared = prepare(grid, remote or here, here)
        measurement = make_measurement(study, prepared, None, (remote or here, here), bar)
        measurement.run(trials)
    if measurement.errors:
        raise StepError("; ".join(map(str, measurement.failures())))
    return Rerun(prepared, measurement.results)


def _recorded_problem(
    name: str, point: LeaderboardPoint, index: int, problem: Problem
) -> RecordedProblem:
    candidate = selected_candidate(point, index)
    trials = trials_of(LeaderboardKey(name, problem), candidate, point.seeds, shown=True)
    return RecordedProblem(problem, trials, point.recovered[index], point.loss[index])
