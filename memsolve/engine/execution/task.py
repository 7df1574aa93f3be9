"""A task: what is submitted to an executor, runs in one of its workers, and returns an answer.

It measures, and sees no file: its arguments are the study, the grid and some cells, and its answer
holds results with the environment that made them.
"""

import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from memsolve_kernels.errors import InputError

from memsolve.engine.execution.choose import default_runner
from memsolve.engine.execution.process_settings import put
from memsolve.engine.execution.runner import Runner
from memsolve.environment import Environment, environment
from memsolve.faults import WorkerError, format_error, is_interrupt
from memsolve.importing import FOLDER
from memsolve.version import version_of


class TaskContext(NamedTuple):
    """The part that all tasks of a run share.

    Attributes:
        path: of modules, in the process that submits.
        folder: of modules that are not installed, `importing.FOLDER`.
        settings: of the process that submits, `process_settings.numerical` but for threads.
        run: the study, the grid and the time limit, pickled: they may need the path.
        key: of this run alone, so that no run has processes of an earlier one.
    """

    path: Sequence[str]
    folder: str | None
    settings: Mapping[str, Any]
    run: bytes
    key: str


class Call(NamedTuple):
    """A call of `Runner.stream`.

    Attributes:
        function, arguments, cells: of the call.
        device: on which it runs.
        packages: distributions whose versions belong to the environment of its values.
    """

    function: Callable[..., Iterable[Any]]
    arguments: Sequence[Any]
    cells: float
    device: str
    packages: Sequence[str]


class Answer(NamedTuple):
    """The outcome of a task.

    Attributes:
        values: all of them, or those before the error.
        error: that ended the call; None without one.
        environment: that made the values.
        worker: name of the process.
        start, stop: when the call ran, in seconds since the epoch, by the clock of the worker.
    """

    values: list[Any]
    error: Exception | None
    environment: Environment
    worker: str
    start: float
    stop: float


class Task:
    """A call that runs when it is unpickled, by `pickle.loads`, which then returns an `Answer`.

    A scheduler between, such as Dask's, unpickles the function of a task but no bytes. So it needs
    neither this package nor the user's modules.

    Args:
        context: a pickled `TaskContext`.
        call: a pickled `Call`.
    """

    def __init__(self, context: bytes, call: bytes) -> None:
        self._context, self._call = context, call

    def __reduce__(self) -> tuple[Callable[..., bytes], tuple[bytes, bytes]]:
        return run_task, (self._context, self._call)


class _OpenContext(NamedTuple):
    """The context of the last task of this process; the next one mostly has the same."""

    pickled: bytes
    context: TaskContext
    runner: Runner
    stack: ExitStack


_turn = threading.Lock()
_open: _OpenContext | None = None


def dumps(value: object) -> bytes:
    """A value as bytes: by cloudpickle where that is installed, for lambdas and local classes."""
    try:
        import cloudpickle
    except ImportError:
        return pickle.dumps(value)
    pickled: bytes = cloudpickle.dumps(value)
    return pickled


def run_task(context: bytes, call: bytes) -> bytes:
    """The pickled answer of a call. A process runs one at a time, since it has one set of seeds."""
    with _turn:
        start, device = time.time(), "cpu"
        values: list[Any] = []
        packages: Sequence[str] = ()
        error: Exception | None = None
        try:
            runner = _open_context(context).runner
            function, arguments, cells, device, packages = _unpickle(call)
            for value in runner.stream(function, *arguments, cells=cells):
                values.append(value)  # noqa: PERF402 - those before an error count
        except InputError as failure:
            error = failure
        except BaseException as failure:
            if is_interrupt(failure):
                raise
            error = RuntimeError(f"in {worker_name()}:\n{traceback.format_exc()}")
        here = _environment(device) | {name: version_of(name) for name in packages}
        return dumps(Answer(values, error, here, worker_name(), start, time.time()))


def close_context() -> None:
    """End the process for optimizers that the last task may have left."""
    global _open
    if _open is not None:
        _open.stack.close()
    _open = None


def worker_name() -> str:
    """The name of this process: its host and its number."""
    return f"process {os.getpid()} of {socket.gethostname()}"


def _open_context(pickled: bytes) -> _OpenContext:
    """The context, with what runs its calls, and its settings in force."""
    global _open
    if _open is None or _open.pickled != pickled:
        close_context()
        context: TaskContext = pickle.loads(pickled)
        sys.path += [each for each in context.path if each not in sys.path and os.path.isdir(each)]
        stack = ExitStack()
        runner = stack.enter_context(default_runner(*_unpickle(context.run)))
        _open = _OpenContext(pickled, context, runner, stack)
    FOLDER.set(_open.context.folder)  # a variable of this thread
    put(_open.context.settings)
    return _open


def _unpickle(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except (ImportError, AttributeError) as error:
        raise WorkerError(
            f"a worker, {worker_name()}, cannot import what the study needs: "
            f"{format_error(error)}; install it there, or start the worker with its folder in "
            "PYTHONPATH"
        ) from error


def _environment(device: str) -> Environment:
    """That of the device; that of the CPU where the device cannot be used, as the error says."""
    try:
        return environment(device)
    except (RuntimeError, AssertionError):
        return environment("cpu")
