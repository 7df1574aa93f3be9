"""Attribution of failures: to an optimizer, or to the machine."""

import errno
import re
import signal
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from memsolve_kernels.errors import InputError


class StepError(InputError):
    """An optimizer cannot be made, failed in its step, or took a step that is not finite."""


class MachineError(InputError):
    """The machine failed: no memory, disk or file descriptors, a lost device, or a signal.

    This says nothing about the optimizer, so it is never a result: the cell has none, and is
    measured again when the study is resumed.
    """


class EndedError(StepError):
    """An optimizer ended its process, or was stopped at the time limit."""


class KilledError(MachineError):
    """A signal ended the process of an optimizer."""


class ExecutorError(MachineError):
    """The executor that runs a study takes no more tasks, or has cancelled them."""


class WorkerError(InputError):
    """A worker of an executor that cannot measure the study as this process would."""


class OutOfMemoryError(MachineError):
    """Memory ran out, on the CPU or on a GPU."""


class RankError(InputError):
    """Another rank failed or has ended, so that no rank can go on.

    This is neither an optimizer's fault nor a cell's, and ends the study; the results are kept.
    """


SHORTAGES = {
    getattr(errno, name)
    for name in ("EAGAIN", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOBUFS", "ENOSPC")
    if hasattr(errno, name)
}
"""Codes of an OSError for a resource that ran out."""

NO_MEMORY = (
    r"DefaultCPUAllocator|DefaultAllocator|bad_alloc|out of memory|not enough memory|"
    r"allocate memory|Unable to allocate|STATUS_ALLOC_FAILED"
)
"""In the message of an exception: memory ran out. Of torch, numpy, C++, the system and CUDA."""

LOST_DEVICE = r"CUDA error|CUDA driver error|HIP error|STATUS_NOT_INITIALIZED|start new thread"
"""In the message of an exception: the device or the system cannot continue."""

REQUESTED = r"allocate (\d[\d.]*) ?(bytes|[KMGT]iB)"
"""The amount of memory that torch or numpy requested, in an error message."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@contextmanager
def attribute_errors(what: str, kind: type[InputError] = StepError) -> Iterator[None]:
    """Raise an exception of an optimizer's code as a failure of the machine or of the optimizer.

    An optimizer may raise anything, also `SystemExit` and `GeneratorExit`. `KeyboardInterrupt`
    passes, since a user may have caused it, unless the process ignores that signal.

    Args:
        what: the failed operation, with which the message begins.
        kind: type of a failure of the optimizer.

    Raises:
        MachineError: the machine failed.
        RankError: another rank failed.
        kind: the optimizer failed.
    """
    try:
        yield
    except (StepError, MachineError, RankError):
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise machine_error(error) or kind(f"{what}: {format_error(error)}") from error


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception may be a user's interrupt, which reaches the main thread only.

    False if the process ignores interrupts.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return threading.current_thread() is threading.main_thread() and not ignored


def machine_error(error: BaseException) -> MachineError | None:
    """The failure of the machine that an exception or one of its causes reports.

    None if there is no such report: then the code that raised the exception failed.
    """
    for each in _chain(error):
        message = full_message(each)
        is_system = isinstance(each, RuntimeError | OSError)
        if isinstance(each, MemoryError) or (is_system and re.search(NO_MEMORY, message)):
            match = re.search(REQUESTED, message)
            size = f", {format_bytes(_bytes(*match.groups()))} were requested" if match else ""
            return OutOfMemoryError(f"out of memory{size}")
        is_shortage = isinstance(each, OSError) and each.errno in SHORTAGES
        if is_shortage or (isinstance(each, RuntimeError) and re.search(LOST_DEVICE, message)):
            return MachineError(f"the machine failed: {format_error(each)}")
    return None


def format_error(error: BaseException) -> str:
    """The message of an exception, in one line; its type if it has none, or cannot be printed."""
    if isinstance(error, SystemExit):
        return f"it exits, with {format_repr(error.code)}"
    first = full_message(error).strip().partition("\n\n")[0]
    return textwrap.shorten(first, 300) or type(error).__name__


def full_message(error: BaseException) -> str:
    """The message of an exception; empty if it cannot be printed."""
    try:
        return str(error)
    except BaseException:
        return ""


def format_repr(value: object) -> str:
    """The `repr` of a value; its type if it has none."""
    try:
        return textwrap.shorten(repr(value), 300)
    except BaseException:
        return f"a {type(value).__name__}"


def format_bytes(size: float) -> str:
    """A number of bytes as text, such as `3.2 GiB`."""
    power = 0
    while size >= 1024 and power < len(UNITS) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.1f} {UNITS[power]}" if power else f"{size:.0f} bytes"


def _bytes(number: str, unit: str) -> float:
    return float(number.rstrip(".")) * 1024.0 ** UNITS.index(unit)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, its cause or context, and so on."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and not any(current is each for each in seen):
        seen.append(current)
        yield current
        cause = current.__cause__
        current = current.__context__ if cause is None else cause
