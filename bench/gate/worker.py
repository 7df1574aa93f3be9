"""A process that imports the packages of one tree, and the benchmarks of this one."""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from bench.cases import QUICK
from bench.repository import TreeError
from bench.timing import Measurement

TRIES = 8
LEAST_SECONDS = 2e-3  # of a try: short ones find a quiet moment

PRELOADED = [  # once for all workers: what a tree imports, less its own packages
    *("bench.gate.worker", "torch._dynamo", "triton.compiler"),
    *("scipy.stats", "scipy.optimize", "matplotlib.figure"),
]

_context = get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


class WorkerError(RuntimeError):
    """The packages of a tree raised an error, or their process died."""

    def __init__(self, tree: Path, message: str) -> None:
        super().__init__(message)
        self.tree = tree


class Worker:
    """Calls functions in the process. On a CPU it computes in one thread: less disturbs it."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._pool = ProcessPoolExecutor(
            1, _context, initializer=_enter, initargs=(tree.resolve(),)
        )
        self._pid = self._pool.submit(os.getpid)  # starts the process, while others start

    def check(self) -> None:
        """Make sure that it measures its tree.

        Raises:
            TreeError: it would import other packages.
            WorkerError: it died.
        """
        for package, file in self.call(package_files).items():
            if file is None or not Path(file).is_relative_to(self.tree.resolve()):
                raise TreeError(f"{package} is imported from {file}, and not from {self.tree}")

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a function of our own in the process; None where the packages lack it.

        Raises:
            WorkerError: the packages failed.
        """
        try:
            result, error = self._pool.submit(_call, function, arguments).result()
        except BrokenExecutor:
            error = f"the process died in {function.__name__}"
        if error is not None:
            raise WorkerError(self.tree, error)
        return result

    def end(self) -> None:
        """End the process, whatever it is doing, and those that it has started."""
        with contextlib.suppress(BrokenExecutor, OSError):  # it has ended
            os.killpg(self._pid.result(), signal.SIGKILL)
        self._pool.shutdown()


@contextlib.contextmanager
def workers(*trees: Path) -> Iterator[list[Worker]]:
    """A worker for each tree."""
    with contextlib.ExitStack() as ending:
        running = []
        for tree in trees:
            running.append(Worker(tree))
            ending.callback(running[-1].end)
        for worker in running:
            worker.check()
        yield running


def package_files() -> dict[str, str | None]:
    """The files of the packages under test; finding them imports nothing."""
    specs = {name: find_spec(name) for name in ("memsolve", "memsolve_kernels")}
    return {name: None if spec is None else spec.origin for name, spec in specs.items()}


def load(case_name: str) -> tuple[str, str]:
    """Check a case and keep it ready; the status of its result, and a note."""
    case = next(each for each in QUICK if each.name == case_name)
    measurement = Measurement.of(case, case.ours)
    if measurement.timing.is_valid:
        calls = math.ceil(LEAST_SECONDS / measurement.hot(1).device)
        _loaded[:] = [(measurement, calls)]
    return measurement.timing.status, measurement.timing.note


def sample() -> float:
    """Device seconds of a call, the quickest of several tries: disturbances only add."""
    ((measurement, calls),) = _loaded
    return min(measurement.clock.hot(measurement.run, calls).device for _ in range(TRIES))


_loaded: list[tuple[Measurement, int]] = []


def _enter(tree: Path) -> None:
    """Prepare the process: it imports from the tree, and ends with its parent."""
    os.setpgid(0, 0)  # a process group, which `Worker.end` kills
    Thread(target=_end_with_parent, daemon=True).start()
    sys.path[:0] = [str(tree), str(tree / "kernels")]
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """A result, or an error as text: the parent may lack the error's class."""
    try:
        return function(*arguments), None
    except ImportError:
        return None, None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
