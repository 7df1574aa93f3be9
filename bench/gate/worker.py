"""A process that imports the packages of one tree and the benchmarks of this one."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from bench.cases import QUICK
from bench.measure import Clock
from bench.registry import Run, Unsupported
from bench.repository import TreeError
from bench.trial import Trial

TRIES = 8
LEAST_SECONDS = 2e-3  # of a try: short ones find a quiet moment


class WorkerError(RuntimeError):
    """What the packages of a tree raised, or that their process died."""

    def __init__(self, tree: Path, what: str) -> None:
        super().__init__(what)
        self.tree = tree


class Worker:
    """Asks the process. On a CPU it computes in one thread: what others do then matters least."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.process = ProcessPoolExecutor(1, get_context("spawn"), _enter, (tree.resolve(),))
        self._packages = self.process.submit(packages)  # starts it, beside the others

    def check(self) -> None:
        """Make sure that it measures its tree.

        Raises:
            TreeError: it would import other packages.
        """
        for package, file in self._packages.result().items():
            if file is None or not Path(file).is_relative_to(self.tree.resolve()):
                raise TreeError(f"{package} is imported from {file}, and not from {self.tree}")

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of our own answers there; None where the packages lack what it needs.

        Raises:
            WorkerError: the packages failed.
        """
        try:
            answer, error = self.process.submit(_answer, question, arguments).result()
        except BrokenProcessPool:
            error = f"the process died, asked for {question.__name__}"
        if error is not None:
            raise WorkerError(self.tree, error)
        return answer


@contextlib.contextmanager
def workers(*trees: Path) -> Iterator[list[Worker]]:
    """A worker for each tree."""
    running = [Worker(tree) for tree in trees]
    try:
        for worker in running:
            worker.check()
        yield running
    finally:
        for worker in running:
            worker.process.shutdown()


def packages() -> dict[str, str | None]:
    """The files of the packages under test; finding them imports nothing."""
    specs = {name: find_spec(name) for name in ("memsolve", "memsolve_kernels")}
    return {name: None if spec is None else spec.origin for name, spec in specs.items()}


def load(case: str) -> tuple[str, str]:
    """Check a case and keep it ready; the status of its result, and a note."""
    (found,) = (entry for entry in QUICK if entry.name == case)
    trial = Trial(found)
    verdict, _, run = trial.check(found.function.ours)
    if run is not None:
        calls = math.ceil(LEAST_SECONDS / trial.clock.hot(run, 1).device)
        _ready[:] = [(trial.clock, run, calls)]
    return verdict.status, verdict.note


def sample() -> float:
    """Device seconds of a call, the quickest of several tries: what disturbs only adds."""
    ((clock, run, calls),) = _ready
    return min(clock.hot(run, calls).device for _ in range(TRIES))


_ready: list[tuple[Clock, Run, int]] = []


def _enter(tree: Path) -> None:
    sys.path[:0] = [str(tree), str(tree / "kernels")]
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)


def _answer(question: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """An answer or an error, as words: the asker need not have the error's class."""
    try:
        return question(*arguments), None
    except Unsupported:
        return None, None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
