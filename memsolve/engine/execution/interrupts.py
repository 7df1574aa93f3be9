"""Interrupts of the terminal, which are for the process of the user alone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def blocked_interrupts() -> Iterator[None]:
    """Block interrupts in this thread, and in threads and processes that are started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
