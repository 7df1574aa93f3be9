"""Verification of a record: its hash, its source, and its smallest problems, run again."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from memsolve_kernels.errors import InputError

from memsolve.engine.results.estimate import mean
from memsolve.engine.storage.folder import write
from memsolve.importing import FOLDER
from memsolve.records.record import Record, Verification, format_record
from memsolve.records.rerun import RecordedProblem, Rerun, recorded_problems, rerun, smallest
from memsolve.records.source import (
    EXAMPLES,
    differing_files,
    is_known,
    write_files,
)
from memsolve.report.formatting import format_count, format_number
from memsolve.study.leaderboard.tracks import Problem

SAME = "torch", "numpy", "device", "threads", "platform"
"""Settings of the environment that decide how sums are rounded."""

LEAST_COUNT = 1.0
"""Items by which means may differ where seeds agree, in another environment."""

LOSS_TOLERANCE = 1e-5
"""Relative difference of equal losses; the last digits of a sum may depend on its memory."""


class SourceError(InputError):
    """The code here is not the code of the record."""


class ProblemCheck(NamedTuple):
    """A problem of a record, run again.

    Attributes:
        problem: that was run again.
        recorded, measured: items recovered, mean over seeds.
        reach: by how much the means may differ, from the interval of the rerun; 0 where every
            number must be equal.
        loss_recorded, loss_measured: mean over seeds with a finite loss; NaN without any.
        agrees: whether it was reproduced.
    """

    problem: Problem
    recorded: float
    measured: float
    reach: float
    loss_recorded: float
    loss_measured: float
    agrees: bool

    def __str__(self) -> str:
        """The numbers in a line."""
        verdict = ("within" if self.reach else "equal") if self.agrees else "DIFFERS"
        reach = f" +- {format_count(self.reach)}" if self.reach else ""
        return (
            f"{verdict}: {self.problem.track}, {self.problem}: "
            f"{format_count(self.recorded)} items recorded, "
            f"{format_count(self.measured)}{reach} measured; loss "
            f"{format_number(self.loss_recorded)} and {format_number(self.loss_measured)}"
        )


@dataclass(frozen=True)
class Report:
    """The outcome of a verification.

    Attributes:
        checks: of the problems that were run again.
        total: number of problems of the record.
        differences: in what the environment here differs from the record's, as text.
        notes: on the source.
        environment: of the rerun.
    """

    checks: list[ProblemCheck]
    total: int
    differences: list[str]
    notes: list[str]
    environment: Mapping[str, str | int]

    @property
    def exact(self) -> bool:
        """Whether every number had to be equal."""
        return not self.differences

    @property
    def reproduced(self) -> bool:
        """Whether all problems agree."""
        return all(check.agrees for check in self.checks)

    def lines(self) -> list[str]:
        """The outcome as lines of text."""
        rule = (
            "the environment is the recorded one: every number must be equal"
            if self.exact
            else "means must be within the 95% interval over seeds of the rerun, since here "
            + "; ".join(self.differences)
        )
        wrong = sum(not check.agrees for check in self.checks)
        of = f"{len(self.checks)} of {self.total} problems"
        outcome = (
            f"reproduced: {of} run again"
            if self.reproduced
            else f"NOT reproduced: {wrong} differ, of {of} run again"
        )
        return [*self.notes, rule, *map(str, self.checks), outcome]


def verify_record(
    record: Record, *, trust: bool = False, every: bool = False, executor: Executor | None = None
) -> Report:
    """Run problems of a record again, on the recorded candidates and seeds, without tuning.

    In the environment of the record (torch, numpy, processor, threads, and the packages of the
    optimizer) every count must be equal, and every loss up to `LOSS_TOLERANCE`. In another one
    the mean over seeds must be within the 95% interval (`estimate.mean`) of the rerun, or within
    `LEAST_COUNT` items where that is narrower: seeds draw the same memories there, and rounding
    alone differs. The recorded interval is the author's, who could make it as wide as needed.

    Args:
        record: with a correct hash (`record.read_record`).
        trust: run the source of the record where the source here is another one or none.
        every: run all problems again; by default the smallest ones (`rerun.smallest`).
        executor: measures side by side; by default one run after the other.

    Raises:
        SourceError: the source here is not the recorded one, and the record is not trusted.
        InputError: the optimizer cannot be used here, or the record holds no problem.
    """
    problems = recorded_problems(record)
    if not problems:
        raise InputError(f"the record of {record.name!r} holds no problem that could be run again")
    selected = problems if every else smallest(problems)
    with _source_of(record, trust=trust) as notes:
        result = rerun(record, selected, executor)
    differences = _differences(record, result)
    exact = not differences
    return Report(
        [_check(each, result, exact=exact) for each in selected],
        len(problems),
        differences,
        notes,
        result.prepared.environment,
    )


def mark_verified(record: Record, report: Report, date: str, path: Path) -> None:
    """Write the label *verified* into the file of a record that was reproduced."""
    verification = Verification(
        date, len(report.checks), report.total, report.exact, dict(report.environment)
    )
    write(path, format_record(replace(record, verification=verification)))


@contextmanager
def _source_of(record: Record, *, trust: bool) -> Iterator[list[str]]:
    """Provide the source of a record, and notes on it: as it is here, or as the record has it."""
    files = record.source.files
    differing = differing_files(files)
    if not (trust or is_known(record.name, files)):
        raise SourceError(
            f"the optimizer {record.name!r} is of a package that memsolve does not know; --trust "
            "runs it: look at the package first"
        )
    if not differing:
        yield [f"source: {', '.join(files)}, the same code here"] if files else []
        return
    prefix = EXAMPLES.replace(".", "/")
    parts = [f"{path} ({why})" for path, why in differing.items()]
    if fixed := [path for path in differing if path.startswith(prefix)]:
        raise SourceError(
            f"{', '.join(fixed)} is other code in this memsolve; verify with memsolve "
            f"{record.environment.get('memsolve')}"
        )
    if not trust:
        raise SourceError(
            f"the source in the record is not the source here: {', '.join(parts)}; --trust runs "
            "the source in the record, which is code of its author: read it first"
        )
    with tempfile.TemporaryDirectory() as folder:
        write_files(files, Path(folder))
        previous = FOLDER.set(folder)
        try:
            yield [f"source: {', '.join(files)}, from the record, which is trusted"]
        finally:
            FOLDER.reset(previous)


def _differences(record: Record, result: Rerun) -> list[str]:
    """In what the environment of a rerun differs from that of the record."""
    here = {**result.prepared.environment, **result.prepared.packages}
    there = {**record.environment, **record.source.packages}
    names = [*SAME, *record.source.packages]
    return [
        f"{name} is {here.get(name)}, recorded {there.get(name)}"
        for name in names
        if _kind(here.get(name)) != _kind(there.get(name))
    ]


def _kind(value: object) -> object:
    """A processor without its number of cores; any other value as it is."""
    is_processor = isinstance(value, str) and value.endswith(" cores")
    return str(value).rpartition(", ")[0] if is_processor else value


def _check(recorded: RecordedProblem, result: Rerun, *, exact: bool) -> ProblemCheck:
    runs = [result.runs[trial] for trial in recorded.trials]
    counts, losses = [run.recovered for run in runs], [run.loss for run in runs]
    bar = mean(counts).bar
    assert bar is not None  # counts are finite
    measured, low, high = bar
    value = sum(recorded.recovered) / len(recorded.recovered)
    if exact:
        reach = 0.0
        agrees = counts == recorded.recovered and _equal(losses, recorded.loss)
    else:
        reach = max(high - measured, measured - low, LEAST_COUNT)
        agrees = abs(measured - value) <= reach
    return ProblemCheck(
        recorded.problem, value, measured, reach, _mean(recorded.loss), _mean(losses), agrees
    )


def _equal(losses: Sequence[float | None], others: Sequence[float | None]) -> bool:
    """Whether losses are equal, up to `LOSS_TOLERANCE`."""
    return all(
        loss is other
        or (
            loss is not None
            and other is not None
            and math.isclose(loss, other, rel_tol=LOSS_TOLERANCE)
        )
        for loss, other in zip(losses, others, strict=True)
    )


def _mean(losses: Sequence[float | None]) -> float:
    finite = [loss for loss in losses if loss is not None]
    return sum(finite) / len(finite) if finite else math.nan
