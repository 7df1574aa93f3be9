"""Standard output, whose reader may leave, and which may be full. Files are written before."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from memsolve_kernels.errors import InputError
from rich.console import Console

CLOSED_PIPE = 141
"""Exit status of a command whose reader has left: 128 and the number of SIGPIPE."""


class OutputError(InputError):
    """Standard output that takes no more, as on a full disk."""


class Terminal(Console):
    """Standard output, which ends the command quietly when its reader has left."""

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
    """Drop what standard output has not taken, at which Python would stumble when it exits.

    Returns:
        The exit status.
    """
    try:
        print(end="", flush=True)
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return status or (CLOSED_PIPE if isinstance(error, BrokenPipeError) else 1)
    return status
