"""Whose failure an exception is: the optimizer's own, or the machine's."""

import errno
import re
import signal
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from memsolve_kernels.errors import InputError


class StepError(InputError):
    """An optimizer that cannot be made, that failed in its step, or whose step is not finite."""


class MachineError(InputError):
    """The machine failed: no memory, disk or file descriptors, a lost device, or a signal.

    It says nothing about the optimizer, so it is never a result: the cell has none, and is measured
    again when the study is resumed.
    """


class EndedError(StepError):
    """An optimizer ended the process that it ran in, or was stopped at the time limit."""


class KilledError(MachineError):
    """A signal ended the process that an optimizer ran in."""


class OutOfMemoryError(MachineError):
    """There was no memory, on the CPU or on a GPU."""


SHORTAGES = {
    getattr(errno, name)
    for name in ("EAGAIN", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOBUFS", "ENOSPC")
    if hasattr(errno, name)
}
"""Codes of an OSError that say that the machine ran out of something."""

NO_MEMORY = (
    r"DefaultCPUAllocator|DefaultAllocator|bad_alloc|out of memory|not enough memory|"
    r"allocate memory|Unable to allocate|STATUS_ALLOC_FAILED"
)
"""Words of an exception where there is no memory: of torch, numpy, C++, the system and CUDA."""

LOST_DEVICE = r"CUDA error|CUDA driver error|HIP error|STATUS_NOT_INITIALIZED|start new thread"
"""Words of an exception where the device, or the system, cannot go on."""

ASKED_FOR = r"allocate (\d[\d.]*) ?(bytes|[KMGT]iB)"
"""How torch and numpy say how much was asked for."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@contextmanager
def attribute_errors(what: str, kind: type[InputError] = StepError) -> Iterator[None]:
    """Raise what the code of an optimizer raises as an error that says whose failure it is.

    An optimizer may raise anything, `SystemExit` and `GeneratorExit` too. `KeyboardInterrupt` may
    be a person's, and passes, but where the process ignores that signal.

    Args:
        what: what failed, the beginning of the message.
        kind: of the optimizer's own failure.

    Raises:
        MachineError: the machine failed.
        kind: the optimizer did.
    """
    try:
        yield
    except (StepError, MachineError):
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise machine_error(error) or kind(f"{what}: {format_error(error)}") from error


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception may be a person's: not where the process ignores interrupts."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return isinstance(error, KeyboardInterrupt) and not ignored


def machine_error(error: BaseException) -> MachineError | None:
    """The failure of the machine that an exception, or what it was raised from, reports.

    None if it reports none: then the failure is that of the code that raised it.
    """
    for each in _chain(error):
        words = full_message(each)
        worded = isinstance(each, RuntimeError | OSError)
        if isinstance(each, MemoryError) or (worded and re.search(NO_MEMORY, words)):
            asked = re.search(ASKED_FOR, words)
            much = f", {format_bytes(_bytes(*asked.groups()))} were asked for" if asked else ""
            return OutOfMemoryError(f"out of memory{much}")
        short = isinstance(each, OSError) and each.errno in SHORTAGES
        if short or (isinstance(each, RuntimeError) and re.search(LOST_DEVICE, words)):
            return MachineError(f"the machine failed: {format_error(each)}")
    return None


def format_error(error: BaseException) -> str:
    """What an exception says, in a line; its type where it says nothing, or cannot be printed."""
    if isinstance(error, SystemExit):
        return f"it exits, with {format_value(error.code)}"
    first = full_message(error).strip().partition("\n\n")[0]
    return textwrap.shorten(first, 300) or type(error).__name__


def full_message(error: BaseException) -> str:
    """The message of an exception; empty if it cannot be printed."""
    try:
        return str(error)
    except BaseException:
        return ""


def format_value(value: object) -> str:
    """The `repr` of a value; its type if it has none."""
    try:
        return textwrap.shorten(repr(value), 300)
    except BaseException:
        return f"a {type(value).__name__}"


def format_bytes(size: float) -> str:
    """A number of bytes for a person: `3.2 GiB`."""
    power = 0
    while size >= 1024 and power < len(UNITS) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.1f} {UNITS[power]}" if power else f"{size:.0f} bytes"


def _bytes(number: str, unit: str) -> float:
    return float(number.rstrip(".")) * 1024.0 ** UNITS.index(unit)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it was raised from or during, and so on."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and not any(following is each for each in seen):
        seen.append(following)
        yield following
        cause = following.__cause__
        following = following.__context__ if cause is None else cause
