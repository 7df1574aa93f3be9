"""Running a study: prepare, measure, fit, and write cells and summary."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve.engine.execution.choose import default_executor
from memsolve.engine.execution.executor import Executor, call
from memsolve.engine.grid import Grid
from memsolve.engine.measure import Measurement
from memsolve.engine.options import options
from memsolve.engine.prepare import (
    Prepared,
    RefusedError,
    format_refusal,
    prepare,
    with_optimizers,
)
from memsolve.engine.progress import Progress, bar
from memsolve.engine.results import tidy
from memsolve.engine.results.load import write_summary
from memsolve.engine.results.summary import P, Summary
from memsolve.engine.storage.folder import alone
from memsolve.engine.storage.ownership import check
from memsolve.engine.storage.store import Store
from memsolve.engine.study import AnyStudy, C, G, Study
from memsolve.environment import environment
from memsolve.faults import EndedError, KilledError, MachineError, StepError


class GridError(InputError):
    """A grid of another kind than a study takes."""


def run(
    study: Study[G, C, Any, P],
    grid: G | None = None,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    skip_failing: bool = False,
    time_limit: float | None = None,
    executor: Executor | None = None,
    progress: Progress = bar,
) -> Summary[P]:
    """Run a study without a report; `memsolve.run` writes that, too, and documents the arguments.

    Raises:
        InputError: a grid, device, optimizer or folder that cannot be used.
        MachineError: the machine failed, and no fit is left.
    """
    _check(study, grid)
    if resume and out is None:
        raise InputError("resume continues what is in a folder; give it as out")
    grid = study.complete(study.grid if grid is None else grid)
    with _executor(executor, study, grid, time_limit) as executor:
        prepared, cells = _prepare(study, grid, executor)
        if prepared.refused and not skip_failing:
            raise RefusedError(prepared.refused)
        with _store(study, prepared.grid, out, resume=resume) as store:
            measurement = _measurement(study, prepared, store, executor, progress)
            with closing(store) if store else nullcontext():
                measurement.run(cells)
            summary = _summarize(measurement, prepared)
            if out is not None:
                write_summary(summary, Path(out))
                _write_points(study, measurement.results, Path(out))
    return summary


def _check(study: AnyStudy, grid: Grid | None) -> None:
    """Refuse what is no study, and a grid of another kind than the study takes."""
    if not isinstance(study, Study):
        raise InputError(f"study is {study!r}; expected a study, such as memsolve.study.capacity")
    fields = [name for name, _ in options(study.grid)]
    if grid is not None and not (
        isinstance(grid, type(study.grid)) and [name for name, _ in options(grid)] == fields
    ):
        raise GridError(
            f"grid is a {type(grid).__name__}; {study.name} takes a {type(study.grid).__name__}"
        )


@contextmanager
def _executor(
    executor: Executor | None, study: AnyStudy, grid: Grid, time_limit: float | None
) -> Iterator[Executor]:
    if executor is not None:
        if time_limit is not None:
            raise InputError("time_limit and executor exclude each other: the limit is executor's")
        yield executor
        return
    with default_executor(study, grid, time_limit) as chosen:
        yield chosen


def _prepare(
    study: Study[G, C, Any, P], grid: G, executor: Executor
) -> tuple[Prepared[G], list[C]]:
    """The part of a grid that can be measured, and its cells."""
    prepared = prepare(grid, executor)
    try:
        return prepared, _cells(study, prepared.grid, executor)
    except RefusedError as error:
        refused = error.refused
    except (EndedError, KilledError):
        refused = _optimizers_ending_the_process(study, prepared.grid, executor)
    prepared = prepared.without(refused)
    return prepared, _cells(study, prepared.grid, executor)


def _cells(study: Study[G, C, Any, P], grid: G, executor: Executor) -> list[C]:
    """The cells to begin with, for which optimizers may have to take steps."""
    steps = len(grid.labels) * len(grid.alphas) * len(grid.dims)
    return call(executor, partial(study.cells, grid), cells=steps)


def _optimizers_ending_the_process(
    study: Study[G, C, Any, P], grid: G, executor: Executor
) -> dict[str, str]:
    """Optimizers that end the process while cells are made, with the reason, by label."""
    refused: dict[str, str] = {}
    for label in grid.labels:
        try:
            _cells(study, with_optimizers(grid, [label]), executor)
        except RefusedError as error:
            refused |= error.refused
        except (StepError, MachineError) as error:
            refused[label] = format_refusal(label, error)
    return refused


@contextmanager
def _store(
    study: Study[G, C, Any, P], grid: G, out: Path | str | None, *, resume: bool
) -> Iterator[Store[C, Any] | None]:
    """The store in a folder, which is held meanwhile; None without a folder."""
    if out is None:
        yield None
        return
    folder = Path(out)
    settings = json.loads(json.dumps({"study": study.name, **grid.shared_settings()}))
    check(folder, settings)  # before anything is made in it
    with alone(folder):
        store = Store(folder, settings, study.cell, study.result, resume=resume)
        store.expect(environment(grid.device))
        yield store


def _measurement(
    study: Study[G, C, Any, P],
    prepared: Prepared[G],
    store: Store[C, Any] | None,
    executor: Executor,
    progress: Progress,
) -> Measurement[G, C, Any, P]:
    here = environment(prepared.grid.device)
    provenance = {label: here | probe.identity.content for label, probe in prepared.probes.items()}
    return Measurement(study, prepared.grid, provenance, store, executor, progress)


def _summarize(measurement: Measurement[G, C, Any, P], prepared: Prepared[G]) -> Summary[P]:
    study, grid, probes = measurement.study, prepared.grid, prepared.probes
    here = environment(grid.device)
    for probe in probes.values():
        here |= probe.identity.packages
    return Summary(
        study.name,
        grid.command(study.name),
        here,
        measurement.fits(),
        {label: probe.remark for label, probe in probes.items() if probe.remark},
        prepared.refused,
        measurement.failures(),
        unidentified={
            label: probe.identity.unknown
            for label, probe in probes.items()
            if probe.identity.unknown
        },
        grid=grid.as_json(),
    )


def _write_points(study: AnyStudy, results: Mapping[Any, Any], folder: Path) -> None:
    """Write `points.csv`."""
    numbers = ((cell, number) for cell in results for number in study.tidy(results[cell]))
    tidy.write(folder / "points.csv", numbers)
