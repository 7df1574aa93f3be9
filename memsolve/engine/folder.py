"""A folder of results: one process at a time in it, and no half-written file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from memsolve_kernels.errors import InputError


class FolderError(InputError):
    """A folder of results that cannot be used, or a file in it that cannot be written."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it: the operating system lets go of it when the process ends.

    Raises:
        FolderError: it cannot be made, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise FolderError(
            f"{folder} is in use by another process; wait until it ends, or choose another folder"
        ) from error
    except OSError as error:
        raise FolderError(f"{folder} cannot be used for results: {error.strerror}") from error
    with held:
        yield


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: what was there stays until all of the new one is on disk.

    Raises:
        FolderError: names the file, and says why.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {error.strerror}") from error
    finally:  # interrupted, too
        with suppress(OSError):
            partial.unlink()


def append(path: Path, text: str) -> None:
    """Add lines to a file.

    Raises:
        FolderError: names the file, and says why.
    """
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {error.strerror}") from error
