"""A folder of results: one process at a time, no partial files, regular files only."""

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
    """Make and lock the folder; the operating system unlocks it when the process ends.

    Raises:
        FolderError: it cannot be made, or another process has locked it.
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
    """Refuse anything but a regular file: a pipe would block, a link would lead elsewhere.

    Args:
        path: of a file, which need not exist.
        follow: accept a symbolic link to a regular file, as for reading.

    Raises:
        FolderError: names the kind of file.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFMT(os.stat(path, follow_symlinks=follow).st_mode)
        if kind != stat.S_IFREG:
            raise FolderError(
                f"{path} is {KINDS.get(kind, 'no file')}; expected a regular file or none: move it "
                "away, or choose another folder"
            )


def opened(path: Path, mode: Literal["rb", "ab", "xb"]) -> IO[bytes]:
    """Open a regular file without blocking, and for writing without following a link.

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
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it has just appeared
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
    """Replace a file atomically: the old content stays until the new one is on disk.

    The temporary file has an unpredictable name in the same folder, and is always a new file.

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
    """Write all bytes to an unbuffered file, which may accept them in parts."""
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
    """Remove temporary files of killed processes; the folder is locked."""
    for partial in path.parent.glob(f".memsolve-{path.name}-*.partial"):
        with suppress(OSError):
            partial.unlink()


def set_aside(path: Path, data: bytes) -> Path:
    """Append damaged content of a file to `NAME.damaged.SUFFIX` in the same folder, and flush it.

    Returns:
        The path of that file.

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
