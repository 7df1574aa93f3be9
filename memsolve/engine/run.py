"""Running a study: prepare, measure, fit, and write cells and summary."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve import ranks
from memsolve.engine.execution.choose import default_runner
from memsolve.engine.execution.remote import RemoteRunner
from memsolve.engine.execution.runner import Runner, call
from memsolve.engine.execution.task import close_context
from memsolve.engine.grid import Grid
from memsolve.engine.measure import Measurement
from memsolve.engine.options import options
from memsolve.engine.parallel import ParallelMeasurement
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
from memsolve.faults import EndedError, ExecutorError, KilledError, MachineError, StepError


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
    if executor is not None:
        ranks.refuse_other_processes("an executor")
    with ExitStack() as stack:
        stack.callback(close_context)  # of an executor whose workers are threads of this process
        here = stack.enter_context(default_runner(study, grid, time_limit))
        runner = here if executor is None else RemoteRunner(executor, study, grid, time_limit)
        prepared, cells = _prepare(study, grid, runner, here)
        if prepared.refused and not skip_failing:
            raise RefusedError(prepared.refused)
        with _store(study, prepared, out, resume=resume) as store:
            measurement = make_measurement(study, prepared, store, (runner, here), progress)
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


def _prepare(
    study: Study[G, C, Any, P], grid: G, runner: Runner, here: Runner
) -> tuple[Prepared[G], list[C]]:
    """The part of a grid that can be measured, and its cells."""
    prepared = prepare(grid, runner, here)
    try:
        return prepared, _cells(study, prepared.grid, runner)
    except RefusedError as error:
        refused = error.refused
    except (EndedError, KilledError):
        refused = _optimizers_ending_the_process(study, prepared.grid, runner)
    prepared = prepared.without(refused)
    return prepared, _cells(study, prepared.grid, runner)


def _cells(study: Study[G, C, Any, P], grid: G, runner: Runner) -> list[C]:
    """The cells to begin with, for which optimizers may have to take steps."""
    steps = len(grid.labels) * len(grid.alphas) * len(grid.dims)
    return call(runner, partial(study.cells, grid), cells=steps)


def _optimizers_ending_the_process(
    study: Study[G, C, Any, P], grid: G, runner: Runner
) -> dict[str, str]:
    """Optimizers that end the process while cells are made, with the reason, by label."""
    refused: dict[str, str] = {}
    for label in grid.labels:
        try:
            _cells(study, with_optimizers(grid, [label]), runner)
        except RefusedError as error:
            refused |= error.refused
        except ExecutorError:
            raise
        except (StepError, MachineError) as error:
            refused[label] = format_refusal(label, error)
    return refused


@contextmanager
def _store(
    study: Study[G, C, Any, P], prepared: Prepared[G], out: Path | str | None, *, resume: bool
) -> Iterator[Store[C, Any] | None]:
    """The store in a folder, which is held meanwhile; None without a folder."""
    if out is None:
        yield None
        return
    folder = Path(out)
    settings = json.loads(json.dumps({"study": study.name, **prepared.grid.shared_settings()}))
    check(folder, settings)  # before anything is made in it
    with alone(folder):
        store = Store(folder, settings, study.cell, study.result, resume=resume)
        store.expect(prepared.environment)
        yield store


def make_measurement(
    study: Study[G, C, Any, P],
    prepared: Prepared[G],
    store: Store[C, Any] | None,
    runners: tuple[Runner, Runner],
    progress: Progress,
) -> Measurement[G, C, Any, P]:
    """The measurement by a runner, with another one for the fits."""
    runner, here = runners
    provenance = {
        label: prepared.environment | probe.identity.content
        for label, probe in prepared.probes.items()
    }
    if not isinstance(runner, RemoteRunner):
        return Measurement(study, prepared.grid, provenance, store, runner, here, progress)
    runner.expect_packages(prepared.packages)
    return ParallelMeasurement(
        study, prepared.grid, provenance, store, runner=runner, here=here, progress=progress
    )


def _summarize(measurement: Measurement[G, C, Any, P], prepared: Prepared[G]) -> Summary[P]:
    study, grid, probes = measurement.study, prepared.grid, prepared.probes
    return Summary(
        study.name,
        grid.command(study.name),
        prepared.environment | prepared.packages,
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
    tidy.write(folder / "points.csv", numbers, study.csv_fields)
