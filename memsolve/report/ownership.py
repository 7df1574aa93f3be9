"""Recognize the pages and pictures that memsolve wrote, so that it overwrites no other file."""

from collections.abc import Iterable
from os.path import lexists
from pathlib import Path

from memsolve.engine.storage.folder import FolderError, check_regular

GENERATOR = "memsolve"
"""The generator that pages and pictures name in their metadata."""

PAGE_MARKS = f'<meta name="generator" content="{GENERATOR}">'.encode(), b"<title>memsolve: "
"""Either identifies a page; versions up to 0.2.0 wrote only the second."""

PICTURE_MARK = f"Software\0{GENERATOR}".encode()
MATPLOTLIB_MARK = b"Software\0Matplotlib"
"""In pictures of versions up to 0.2.0, and of every other program that uses matplotlib."""

HEADER_BYTES = 4096
"""A file has its mark within this many bytes."""


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Check that files may be written: each is new, or was written by memsolve.

    A picture of an earlier version has no mark of its own. It counts as written by memsolve if
    its folder holds a summary or a report.

    Raises:
        FolderError: names the first file that memsolve did not write.
    """
    for name in names:
        path = folder / name
        check_regular(path)
        if lexists(path) and not _written_by_memsolve(path):
            raise FolderError(
                f"{path} was not written by memsolve and would be overwritten; move it away, or "
                "choose another folder"
            )


def _written_by_memsolve(path: Path) -> bool:
    header = _read_header(path)
    if path.suffix == ".html":
        return any(mark in header for mark in PAGE_MARKS)
    return PICTURE_MARK in header or (MATPLOTLIB_MARK in header and _holds_study(path.parent))


def _holds_study(folder: Path) -> bool:
    return (folder / "summary.json").is_file() or _written_by_memsolve(folder / "report.html")


def _read_header(path: Path) -> bytes:
    """The first bytes of a file; empty if the path is no file or cannot be read."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(HEADER_BYTES)
    except OSError:
        pass
    return b""
