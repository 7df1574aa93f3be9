"""What Python users call: run a study, as the command line does; load a finished one."""

from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from memsolve.engine.progress import Progress, bar
from memsolve.engine.results.summary import P, Summary
from memsolve.engine.run import run as run_without_report
from memsolve.engine.study import C, G, Study
from memsolve.report.ownership import refuse_foreign
from memsolve.report.page import REPORT, write_report


def run(
    study: Study[G, C, Any, P],
    grid: G | None = None,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    skip_failing: bool = False,
    time_limit: float | None = None,
    executor: Executor | None = None,
    progress: Progress = bar,
) -> Summary[P]:
    """Run a study.

    Args:
        study: such as `memsolve.study.capacity`.
        grid: what to vary (default: `study.grid`). A grid made by its class has the defaults of the
            class; `dataclasses.replace(study.grid, dims=(8,))` keeps those of the study.
        out: folder for `cells.jsonl`, `summary.json`, `points.csv`, the figures and
            `report.html`; None writes nothing.
        resume: continue an earlier run in `out`, finished or not. Cells that it has measured with
            the same optimizers are not measured again, whatever else the grid holds.
        skip_failing: leave out optimizers that cannot be used.
        time_limit: seconds for a cell; one that takes longer has failed. Optimizers then run in a
            process of their own, which imports them anew.
        executor: measures cells side by side in its workers, with the same numbers; any
            `concurrent.futures.Executor`, such as `memsolve.DaskExecutor`. This process alone
            writes files. By default cells are measured one by one, in this process, or in another
            one for optimizers of other packages and for a time limit.
        progress: shows how many cells are done (default: a bar on a terminal's standard error).

    Returns:
        The fits, with everything that is needed to measure them again.

    Raises:
        InputError: a grid, device, optimizer or folder that cannot be used.
        MachineError: the machine failed, and no fit is left; or the executor has ended.
        WorkerError: a worker of the executor has other versions, another number of threads, or
            other hardware than the others, or cannot import the study.
    """
    if out is not None:
        refuse_foreign(Path(out), [REPORT])
    summary = run_without_report(
        study,
        grid,
        out,
        resume=resume,
        skip_failing=skip_failing,
        time_limit=time_limit,
        executor=executor,
        progress=progress,
    )
    if out is not None:
        write_report([(study, summary)], Path(out))
    return summary
