"""A process that imports the packages of one tree and the benchmarks of this one."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from bench import lifetime
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
        context = get_context("spawn")
        self._answers, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, tree.resolve()))
        self._process.start()
        there.close()  # of the worker alone: the pipe ends with it
        self._answers.send((packages, ()))  # answered while the others start

    def check(self) -> None:
        """Make sure that it measures its tree.

        Raises:
            TreeError: it would import other packages.
            WorkerError: it died.
        """
        for package, file in self._answer(packages).items():
            if file is None or not Path(file).is_relative_to(self.tree.resolve()):
                raise TreeError(f"{package} is imported from {file}, and not from {self.tree}")

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of our own answers there; None where the packages lack what it needs.

        Raises:
            WorkerError: the packages failed.
        """
        with contextlib.suppress(OSError):  # it is dead, as the missing answer tells
            self._answers.send((question, arguments))
        return self._answer(question)

    def _answer(self, question: Callable[..., Any]) -> Any:
        try:
            answer, error = self._answers.recv()
        except (EOFError, OSError):
            error = f"the process died, asked for {question.__name__}"
        if error is not None:
            raise WorkerError(self.tree, error)
        return answer

    def end(self) -> None:
        """End the process, whatever it is doing, and those that it has started."""
        self._answers.close()
        lifetime.end(self._process)


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


def _serve(asked: Connection, tree: Path) -> None:
    """Answer questions until the asker ends."""
    lifetime.end_with_parent()
    sys.path[:0] = [str(tree), str(tree / "kernels")]
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        while True:
            asked.send(_answer(*asked.recv()))


def _answer(question: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """An answer or an error, as words: the asker need not have the error's class."""
    try:
        return question(*arguments), None
    except Unsupported:
        return None, None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
