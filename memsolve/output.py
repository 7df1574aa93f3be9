"""Standard output that may be closed by its reader, or full. All files are written before."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from memsolve_kernels.errors import InputError
from rich.console import Console

CLOSED_PIPE = 141
"""Exit status after the reader has closed the pipe: 128 plus the number of SIGPIPE."""


class OutputError(InputError):
    """Standard output cannot be written, for example because the disk is full."""


class Terminal(Console):
    """Standard output that ends the command quietly when its reader has closed the pipe."""

    def on_broken_pipe(self) -> NoReturn:
        """End with `CLOSED_PIPE`."""
        raise typer.Exit(CLOSED_PIPE)


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Write to standard output.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield Terminal()
        print(end="", flush=True)
    except BrokenPipeError:
        raise typer.Exit(CLOSED_PIPE) from None
    except OSError as error:
        raise OutputError(
            f"standard output cannot be written: {error.strerror}; the files of the command are "
            "complete"
        ) from error


def close(status: int) -> int:
    """Flush standard output, or discard its buffer, which would make Python fail at exit.

    Args:
        status: exit status of the command.

    Returns:
        The exit status, which is not 0 if the buffer was discarded.
    """
    try:
        print(end="", flush=True)
    except OSError as error:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
        return status or (CLOSED_PIPE if isinstance(error, BrokenPipeError) else 1)
    return status
