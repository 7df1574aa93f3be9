"""The server from which `multiprocessing` forks: a process has one, whatever it has imported."""

from collections.abc import Sequence
from multiprocessing import forkserver
from typing import Any


def preload(modules: Sequence[str]) -> None:
    """Let the server import these modules; one that has imported others is replaced."""
    server: Any = forkserver._forkserver
    if server._preload_modules != list(modules):
        server._stop()  # which multiprocessing has for unit tests
        forkserver.set_forkserver_preload(list(modules))
