"""Execution in the workers of an executor, of which every answer is checked."""

import pickle
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, TypeVar

from memsolve_kernels.errors import InputError

from memsolve.engine.execution.process_settings import numerical
from memsolve.engine.execution.task import Answer, Call, Task, TaskContext, dumps
from memsolve.engine.grid import Grid
from memsolve.engine.study import AnyStudy
from memsolve.environment import Environment, environment
from memsolve.faults import ExecutorError, KilledError, WorkerError
from memsolve.importing import FOLDER

T = TypeVar("T")

SOFTWARE = "memsolve", "python", "torch", "triton", "numpy", "threads"
"""Entries of an environment that a worker shares with this process; its hardware may be another."""


class RemoteRunner:
    """Runs in the workers of an executor.

    All workers have the versions and the number of threads of this process, and the hardware of
    the first one that answered, so that all results of a run have one environment.

    Args:
        executor: of any kind.
        study, grid, time_limit: of the run.
    """

    def __init__(
        self, executor: Executor, study: AnyStudy, grid: Grid, time_limit: float | None
    ) -> None:
        self._executor = executor
        run = _dumps((study, grid, time_limit))
        key = secrets.token_hex(8)
        settings = numerical()
        del settings[
            "threads"
        ]  # a worker has its own, which is checked, so that cores are not lost
        self._context = dumps(TaskContext(list(sys.path), FOLDER.get(), settings, run, key))
        here = environment("cpu")
        self._expected = {name: (here[name], "this process") for name in SOFTWARE}
        self._device = "cpu"
        self._packages: list[str] = []

    def stream(
        self, function: Callable[..., Iterable[T]], *arguments: Any, cells: float = 1
    ) -> Iterator[T]:
        """The values of a function, once all are there; see `Runner.stream`."""
        answer = self.receive(self.submit(function, *arguments, cells=cells))
        yield from answer.values
        if answer.error is not None:
            raise answer.error

    def environment(self, device: str) -> Environment:
        """That of the first worker, which is from now on expected of all."""
        self._device = device
        answer = self.receive(self.submit(iter, ()))
        for name, value in answer.environment.items():
            self._expected.setdefault(name, (value, answer.worker))
        return answer.environment

    def expect_packages(self, versions: Environment) -> None:
        """Expect these versions of further packages, by name, of all workers from now on."""
        self._packages = list(versions)
        self._expected |= {name: (each, "the study") for name, each in versions.items()}

    def submit(
        self, function: Callable[..., Iterable[Any]], *arguments: Any, cells: float = 1
    ) -> Future[bytes]:
        """Submit a call.

        Raises:
            ExecutorError: the executor takes no more.
        """
        call = Call(function, arguments, cells, self._device, self._packages)
        task = Task(self._context, _dumps(call))
        try:
            return self._executor.submit(pickle.loads, pickle.dumps(task))
        except Exception as error:
            raise ExecutorError(
                f"the executor takes no more tasks ({type(error).__name__}): has a worker or a "
                "scheduler ended? Results are kept in --out, and --resume measures the others"
            ) from error

    def receive(self, future: Future[bytes]) -> Answer:
        """The answer to a call, when it is there.

        Raises:
            KilledError: the worker ended while it ran.
            ExecutorError: the executor has ended.
            WorkerError: the worker cannot import the study, or has another environment.
        """
        try:
            answer: Answer = pickle.loads(future.result())
        except CancelledError as error:
            raise ExecutorError(
                "the executor has cancelled its tasks: has its scheduler ended? Results are kept "
                "in --out, and --resume measures the others"
            ) from error
        except ImportError as error:
            raise WorkerError(
                f"a worker cannot run memsolve: {error}; install memsolve there"
            ) from error
        except Exception as error:
            raise KilledError(f"its worker has ended ({type(error).__name__})") from error
        if not isinstance(answer.error, WorkerError):
            self._check(answer)
        return answer

    def _check(self, answer: Answer) -> None:
        for name, (expected, whose) in self._expected.items():
            if (value := answer.environment.get(name)) != expected:
                raise WorkerError(
                    f"a worker, {answer.worker}, has {name} {value!r}, and {whose} has "
                    f"{expected!r}; results of one study need equal ones: "
                    f"{_advice(name)}, or stop that worker"
                )


def _advice(name: str) -> str:
    """What makes an entry of the environments equal."""
    if name == "threads":
        return "start both with the same OMP_NUM_THREADS"
    return "install the same there" if name in SOFTWARE else "use equal machines"


def _dumps(value: object) -> bytes:
    try:
        return dumps(value)
    except Exception as error:
        raise InputError(
            f"the study cannot be sent to a worker: {error}; define what cannot be sent in a "
            "module, or install cloudpickle"
        ) from error
