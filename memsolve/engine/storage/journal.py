"""A file of lines that grows while a study runs, and is soon on disk."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from memsolve.engine.storage import folder
from memsolve.engine.storage.folder import FolderError

FLUSH_SECONDS = 1.0
"""Least time between two flushes to disk (fsync)."""


class Journal:
    """A file that lines are appended to.

    Once `append` has returned, the lines survive the end of the process. They survive a power cut
    once they are flushed to disk: by `append`, at most every `FLUSH_SECONDS`, and by `close`. A
    power cut therefore loses the results of one second at most.

    If the file has been removed or emptied meanwhile, it is written anew.

    Args:
        path: of the file, which exists.
        content: gives the complete content of the file, to write it anew.
    """

    def __init__(self, path: Path, content: Callable[[], str]) -> None:
        self._path = path
        self._content = content
        self._flushed = -FLUSH_SECONDS
        self._pending = False
        with folder.opened(path, "rb") as file:
            self._remember(file)

    def append(self, text: str) -> None:
        """Add lines, all of them or none.

        Raises:
            FolderError: the file cannot be written, or is another one now.
        """
        try:
            with self._opened() as file:
                size = os.fstat(file.fileno()).st_size
                # something else has written to it, and may have ended within a line
                separator = "" if size == self._size else "\n"
                try:
                    folder.write_all(file, (separator + text).encode())
                except BaseException:  # interrupted, too: a torn line would swallow the next one
                    with suppress(OSError):
                        os.ftruncate(file.fileno(), size)
                    raise
                self._pending = True
                self._remember(file)
                if time.monotonic() - self._flushed >= FLUSH_SECONDS:
                    self._flush(file)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Flush what is not on disk yet.

        Raises:
            FolderError: it cannot be.
        """
        if not self._pending:
            return
        try:
            with self._opened() as file:
                self._flush(file)
        except OSError as error:
            raise self._failed(error) from error

    def _opened(self) -> IO[bytes]:
        """The file, open for appending; written anew if it has disappeared."""
        if not os.path.lexists(self._path) or not self._path.lstat().st_size:
            folder.write(self._path, self._content())
            with folder.opened(self._path, "rb") as file:
                self._remember(file)
        file = folder.opened(self._path, "ab")
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != self._identity:
            file.close()
            raise FolderError(
                f"{self._path} was replaced by another file while the study ran; nothing was added "
                "to that one: put the first one back, or choose another folder"
            )
        return file

    def _remember(self, file: IO[bytes]) -> None:
        status = os.fstat(file.fileno())
        self._identity = status.st_dev, status.st_ino
        self._size = status.st_size

    def _flush(self, file: IO[bytes]) -> None:
        os.fsync(file.fileno())
        self._flushed = time.monotonic()
        self._pending = False

    def _failed(self, error: OSError) -> FolderError:
        return FolderError(f"{self._path} cannot be written: {error.strerror}")
