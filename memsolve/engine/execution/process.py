"""A process for optimizers: one that exits or hangs fails alone.

Requests and answers are pickled, through a pair of sockets. The process ends when its socket
closes, however the one that started it has ended; interrupts of the terminal are not for it.
"""

import json
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar

import torch
from memsolve_kernels.errors import InputError

from memsolve.engine.execution.interrupts import blocked_interrupts
from memsolve.engine.execution.local import LocalRunner
from memsolve.engine.execution.process_settings import numerical, put
from memsolve.engine.study import AnyStudy
from memsolve.environment import Environment, environment
from memsolve.faults import EndedError, KilledError, MachineError
from memsolve.importing import FOLDER

T = TypeVar("T")

SUPPORTED = os.name == "posix"
"""Elsewhere a process inherits no sockets by number."""

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from memsolve.engine.execution.process import main; main({end})"
)
"""With the search path of this process: another one would import other modules."""

STDERR = 2
"""The descriptor; Python's own object may have been replaced."""

BEAT = 0.5
"""Seconds between checks that the process lives: its own children may hold its socket open."""


class ProcessRunner:
    """Runs in another process, which is started when needed, and restarted after it has ended.

    Args:
        study: is imported before anything is timed.
        limit: seconds that a cell may take; infinity for any number.
    """

    def __init__(self, study: AnyStudy, limit: float) -> None:
        self._study, self._limit = study, limit
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None

    def stream(
        self, function: Callable[..., Iterable[T]], *arguments: Any, cells: float = 1
    ) -> Iterator[T]:
        """The values of a function; see `Runner.stream`."""
        if self._running is None:
            self._start()
        done = False
        try:
            self._send(function, arguments)
            while (answer := self._receive(cells)) is not None:
                yield answer[0]
            done = True
        except InputError as error:
            done = not isinstance(error, MachineError)  # CUDA does not recover in a process
            raise
        finally:
            if not done:
                self.close()

    def environment(self, device: str) -> Environment:
        """That of this process, whose versions, hardware and settings the other one shares."""
        return environment(device)

    def close(self) -> None:
        """End the process."""
        if self._running is not None:
            (process, connection), self._running = self._running, None
            connection.close()
            process.kill()
            process.wait()

    def _start(self) -> None:
        here, there = Pipe()
        with there:
            end = there.fileno()
            unwritten = ["-B"] * sys.dont_write_bytecode
            words = [*unwritten, "-P", "-c", START.format(end=end), json.dumps(sys.path)]
            with blocked_interrupts():
                process = subprocess.Popen(
                    [sys.executable, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=STDERR,  # output of optimizers is no result
                    pass_fds=[end],
                )
        self._running = process, here
        self._send(numerical(), FOLDER.get(), self._study)
        try:
            self._receive(math.inf)  # that there is nothing more
        except (EndedError, KilledError) as error:
            raise ChildProcessError(f"a process for optimizers cannot start: {error}") from error

    def _send(self, *request: object) -> None:
        assert self._running is not None
        with suppress(OSError):  # of a process that has ended, as it then turns out
            self._running[1].send(request)

    def _receive(self, cells: float) -> tuple[Any] | None:
        """The next value, None after the last; raises the exception of the worker instead."""
        assert self._running is not None
        process, connection = self._running
        until = time.monotonic() + cells * self._limit
        try:
            while not connection.poll(max(0.0, min(BEAT, until - time.monotonic()))):
                if time.monotonic() >= until:
                    self.close()
                    raise EndedError(f"it took longer than the time limit of {self._limit:g} s")
                if process.poll() is not None and not connection.poll():
                    raise EOFError
            answer = connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._ended() from error
        if isinstance(answer, BaseException):
            raise answer
        return answer if answer is None else tuple(answer)

    def _ended(self) -> EndedError | KilledError:
        """The error for a process that has ended."""
        assert self._running is not None
        process, _ = self._running
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        status = process.poll()
        self.close()
        if status is None:
            return EndedError("it closed the files of its process")
        if status >= 0:
            return EndedError(f"it ended its process, with status {status}")
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        memory = ", as where memory runs out" if name in ("SIGKILL", "SIGABRT") else ""
        return KilledError(f"its process was ended by {name}{memory}")


def main(descriptor: int) -> None:
    """Answer requests until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    settings, folder, _ = pickle.loads(requests.get())  # importing a study takes seconds
    torch.optim.SGD([torch.zeros(1)], lr=0.0)  # as does what torch imports for its first optimizer
    put(settings)
    FOLDER.set(folder)
    answers: Iterator[bytes] = iter([pickle.dumps(None)])
    while True:
        try:
            for answer in answers:
                connection.send_bytes(answer)
        except OSError:  # closed by who asks, or by an optimizer, which the listener does not see
            os._exit(0)
        answers = _answers(requests.get())


def _listen(connection: Connection, requests: "queue.SimpleQueue[bytes]") -> None:
    """Take requests; end the process, whatever it does, when there can be no more."""
    with suppress(EOFError, OSError):
        while True:
            requests.put(connection.recv_bytes())
    os._exit(0)


def _answers(request: bytes) -> Iterator[bytes]:
    """Each value in a tuple, then None; or an exception, after which there is nothing more."""
    try:
        function, arguments = pickle.loads(request)
        for value in LocalRunner().stream(function, *arguments):
            yield pickle.dumps((value,))
        answer: object = None
    except InputError as error:
        answer = error
    except BaseException:
        answer = RuntimeError(f"in the process of the optimizers:\n{traceback.format_exc()}")
    yield pickle.dumps(answer)
