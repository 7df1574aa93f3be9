"""Recognize the files that memsolve wrote for a report, so that it overwrites no other file."""

from collections.abc import Iterable
from os.path import lexists
from pathlib import Path

from memsolve.engine.storage.folder import FolderError, check_regular

GENERATOR = "memsolve"
"""The generator that pages and pictures name in their metadata."""

COMMENT = f"{GENERATOR}: "
"""Tables and captions begin with it, after the sign of a comment."""

MARKS = {
    ".html": (f'<meta name="generator" content="{GENERATOR}">'.encode(), b"<title>memsolve: "),
    ".png": (f"Software\0{GENERATOR}".encode(),),
    ".svg": (f"<dc:title>{GENERATOR}</dc:title>".encode(),),
    ".pdf": (f"/Creator ({GENERATOR})".encode(),),
    ".tex": (f"% {COMMENT}".encode(),),
    ".csv": (f"# {COMMENT}".encode(),),
    ".txt": (COMMENT.encode(),),
}
"""By suffix, texts each of which identifies a file.

Pages of versions up to 0.2.0 had the second mark only.
"""

MATPLOTLIB_MARK = b"Software\0Matplotlib"
"""In pictures of versions up to 0.2.0, and of every other program that uses matplotlib."""

MARKED_BYTES = 4096
"""A file has its mark within this many bytes, at its beginning or, a PDF, at its end."""


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
    content = _read_ends(path)
    if any(mark in content for mark in MARKS[path.suffix]):
        return True
    return path.suffix == ".png" and MATPLOTLIB_MARK in content and _holds_study(path.parent)


def _holds_study(folder: Path) -> bool:
    return (folder / "summary.json").is_file() or _written_by_memsolve(folder / "report.html")


def _read_ends(path: Path) -> bytes:
    """The first and last bytes of a file; empty if the path is no file or cannot be read."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(MARKED_BYTES)
                if path.suffix == ".pdf":
                    file.seek(max(0, path.stat().st_size - MARKED_BYTES))
                    start += file.read()
                return start
    except OSError:
        pass
    return b""
