"""What a benchmark leaves that is ended before its time: no process, and no folder for long."""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import NoReturn

PREFIX = "memsolve-bench-"
SIGNALS = signal.SIGTERM, signal.SIGHUP, signal.SIGINT


@contextmanager
def cleaning_up_after_signals() -> Iterator[None]:
    """Let signals raise SystemExit, so that the process ends what it has begun. Then it leaves.

    A signal that is ignored, as SIGHUP under nohup, stays ignored. SIGKILL can be caught by nobody:
    see `end_with_parent` and `scratch`.
    """
    heeded = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)  # a second one would interrupt the cleaning
        raise SystemExit(128 + number)

    before = {each: signal.signal(each, leave) for each in heeded}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def end_with_parent() -> None:
    """Make this spawned process, with all that it starts, end when its parent does, however.

    It becomes a process group, which `end` kills.
    """
    os.setpgid(0, 0)
    Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


def end(process: BaseProcess) -> None:
    """Kill a process that follows its parent, with all that it has started."""
    assert process.pid is not None
    with suppress(OSError):  # it has ended, or is no group yet
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder. Those that killed processes have left are removed first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), _alone(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, _alone(Path(folder)):
        yield Path(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder of this user's until the process ends.

    Raises:
        OSError: another process holds it, or it is none, or of someone else.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(held).st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user")
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)
