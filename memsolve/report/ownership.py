"""Which files in a folder this program has written, so that it overwrites no others."""

from collections.abc import Iterable
from os.path import lexists
from pathlib import Path

from memsolve.engine.storage.folder import FolderError, check_regular

GENERATOR = "memsolve"
"""What pages and pictures name as their generator."""

OF_PAGES = f'<meta name="generator" content="{GENERATOR}">'.encode(), b"<title>memsolve: "
"""Either marks a page; the second is that of versions up to 0.2.0."""

OF_PICTURES = f"Software\0{GENERATOR}".encode()
OF_OLD_PICTURES = b"Software\0Matplotlib"
"""Of versions up to 0.2.0, and of all others who draw with matplotlib."""

BEGINNING = 4096
"""Bytes of a file in which its mark stands."""


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Make sure that files may be written: each is not there yet, or was written by this program.

    A picture of an earlier version, which has no mark, is told from others by what is in its
    folder: a summary or a report.

    Raises:
        FolderError: names the first that is something else.
    """
    for name in names:
        path = folder / name
        check_regular(path)
        if lexists(path) and not _ours(path):
            raise FolderError(
                f"{path} was not written by memsolve and would be overwritten; move it away, or "
                "choose another folder"
            )


def _ours(path: Path) -> bool:
    beginning = _beginning(path)
    if path.suffix == ".html":
        return any(mark in beginning for mark in OF_PAGES)
    return OF_PICTURES in beginning or (OF_OLD_PICTURES in beginning and _holds_study(path.parent))


def _holds_study(folder: Path) -> bool:
    return (folder / "summary.json").is_file() or _ours(folder / "report.html")


def _beginning(path: Path) -> bytes:
    """The first bytes of a file; none of what is no file, or cannot be read."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(BEGINNING)
    except OSError:
        pass
    return b""
