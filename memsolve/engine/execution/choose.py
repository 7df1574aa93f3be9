"""Which runner or executor a study has: this process, one for optimizers, or several."""

import math
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

from memsolve_kernels.errors import InputError, RangeError

from memsolve import ranks
from memsolve.checks import is_positive
from memsolve.engine.execution.local import LocalRunner
from memsolve.engine.execution.runner import Runner
from memsolve.engine.grid import Grid
from memsolve.engine.study import AnyStudy
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.construct import WRAPPED
from memsolve.optimizers.registry import BUILT_IN, parse


@contextmanager
def default_runner(study: AnyStudy, grid: Grid, time_limit: float | None) -> Iterator[Runner]:
    """The runner of a grid: a process for optimizers where one helps, else this process.

    With a time limit it is another process, which imports study and optimizers anew. Without one
    it is another process for optimizers that are neither built in nor torch's, but this process
    for an optimizer given as a class or a function, or from a package that is already imported:
    this process may have changed it. Under torchrun it is this process,
    which alone is connected to the ranks.

    Args:
        study: to be run.
        grid: what it varies.
        time_limit: seconds for a cell; None for no limit.

    Raises:
        InputError: the limit is no number above 0, or cannot be enforced.
    """
    if time_limit is not None and not is_positive(time_limit):
        raise RangeError(f"time_limit is {time_limit!r}; expected a number of seconds above 0")
    if time_limit is not None:
        ranks.refuse_other_processes("a time limit")
    if ranks.current() is not None:
        yield LocalRunner()
        return
    if time_limit is None and not _process_helps(grid):
        yield LocalRunner()
        return
    from memsolve.engine.execution.process import SUPPORTED, ProcessRunner

    if not (SUPPORTED and _is_importable_elsewhere(study, grid)):
        if time_limit is not None:
            raise InputError(
                "a time limit needs a process that can import study and optimizers: give the "
                "optimizers by name, or as classes and functions of a module"
            )
        yield LocalRunner()
        return
    with closing(ProcessRunner(study, time_limit or math.inf)) as runner:
        yield runner


def open_executor(jobs: int, scheduler: str | None) -> AbstractContextManager[Executor | None]:
    """The executor of the options --jobs and --scheduler; None for one process.

    Raises:
        InputError: both are given, or one that cannot be used.
    """
    if jobs == 1 and scheduler is None:
        return nullcontext()
    ranks.refuse_other_processes("--jobs" if scheduler is None else "--scheduler")
    from memsolve.engine.execution import cluster

    if scheduler is None:
        return cluster.processes(jobs)
    if jobs != 1:
        raise InputError("--jobs starts processes here, and --scheduler has its own; give one")
    return cluster.scheduler(scheduler)


def _process_helps(grid: Grid) -> bool:
    """Whether some optimizers are from other packages, and none of these is imported here."""
    foreign = {choice for choice in grid.choices.values() if not _is_built_in(choice)}
    imported = {name.partition(".")[0] for name in sys.modules}
    return bool(foreign) and all(
        isinstance(choice, str) and choice.replace(":", ".").partition(".")[0] not in imported
        for choice in foreign
    )


def _is_built_in(choice: Choice) -> bool:
    """Whether an optimizer, and every optimizer that it wraps, is memsolve's or torch's."""
    if not isinstance(choice, str):
        return str(getattr(choice, "__module__", "")).startswith("torch.optim")
    try:
        path, settings = parse(choice)
    except InputError:
        return True  # is refused later
    wrapped = [settings[key] for key in WRAPPED if isinstance(settings.get(key), str)]
    invalid = "." not in path and ":" not in path  # is refused later
    built_in = invalid or path in BUILT_IN or path.startswith(("torch.optim.", "memsolve.optim."))
    return built_in and all(map(_is_built_in, wrapped))


def _is_importable_elsewhere(*values: object) -> bool:
    """Whether another process can import everything that the values refer to."""
    try:
        return b"__main__" not in pickle.dumps(values)
    except Exception:
        return False
