"""A folder of results: one process at a time in it, no half-written file, regular files only."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, cast

from filelock import FileLock, Timeout
from memsolve_kernels.errors import InputError

KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FolderError(InputError):
    """A folder of results that cannot be used, or a file in it that cannot be written."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it: the operating system lets go of it when the process ends.

    Raises:
        FolderError: it cannot be made, or another process holds it.
    """
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_regular(lock)
        held = FileLock(lock, timeout=0).acquire()
    except Timeout as error:
        raise FolderError(
            f"{folder} is in use by another process; wait until it ends, or choose another folder"
        ) from error
    except OSError as error:
        raise FolderError(f"{folder} cannot be used for results: {error.strerror}") from error
    with held:
        yield


def check_regular(path: Path, *, follow: bool = False) -> None:
    """Refuse what is no regular file: a named pipe would block, a link lead elsewhere.

    Args:
        path: of a file, which need not exist.
        follow: a symbolic link to a regular file will do, as it does for reading.

    Raises:
        FolderError: says what it is.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFMT(os.stat(path, follow_symlinks=follow).st_mode)
        if kind != stat.S_IFREG:
            raise FolderError(
                f"{path} is {KINDS.get(kind, 'no file')}; expected a regular file or none: move it "
                "away, or choose another folder"
            )


def opened(path: Path, mode: Literal["rb", "ab", "xb"]) -> IO[bytes]:
    """Open a regular file without waiting for anybody, and for writing without following a link.

    Raises:
        FolderError: it is no regular file.
        OSError: it cannot be opened.
    """
    reads = mode == "rb"
    check_regular(path, follow=reads)

    def opener(name: str, flags: int) -> int:
        follow = 0 if reads else getattr(os, "O_NOFOLLOW", 0)
        return os.open(name, flags | follow | getattr(os, "O_NONBLOCK", 0), 0o666)

    buffering = -1 if reads else 0
    file = cast("IO[bytes]", open(path, mode, buffering, opener=opener))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it has just been put there
        file.close()
        raise FolderError(f"{path} is no regular file any more; choose another folder")
    return file


def read(path: Path) -> bytes | None:
    """The content of a regular file; None where there is none.

    Raises:
        FolderError: it is no regular file, or cannot be read.
    """
    try:
        with opened(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}") from error


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: what was there stays until all of the new one is on disk.

    The temporary file has an unpredictable name in the same folder, and is never one that exists.

    Raises:
        FolderError: names the file, and says why.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".memsolve-{path.name}-{secrets.token_hex(8)}.partial")
    check_regular(path)
    try:
        with opened(partial, "xb") as file:
            write_all(file, data)
            os.fsync(file.fileno())
        partial.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {error.strerror}") from error
    finally:  # interrupted, too
        with suppress(OSError):
            partial.unlink()


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all bytes to a file without a buffer, which may take them in parts."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of files to disk, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_partials(path: Path) -> None:
    """Remove what killed processes have left of writing a file, while the folder is held."""
    for partial in path.parent.glob(f".memsolve-{path.name}-*.partial"):
        with suppress(OSError):
            partial.unlink()


def set_aside(path: Path, data: bytes) -> Path:
    """Add damaged content of a file to the one beside it, `NAME.damaged.SUFFIX`, and flush it.

    Returns:
        The path of the latter.

    Raises:
        FolderError: it cannot be written.
    """
    aside = path.with_suffix(f".damaged{path.suffix}")
    try:
        with opened(aside, "ab") as file:
            write_all(file, data)
            os.fsync(file.fileno())
    except OSError as error:
        raise FolderError(f"{aside} cannot be written: {error.strerror}") from error
    flush_folder(path.parent)
    return aside
