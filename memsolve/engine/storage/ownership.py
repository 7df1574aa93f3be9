"""Whose results a folder holds: a study writes into its own, and into one without any.

A folder is a study's own if its `cells.jsonl` begins with the study's name and settings.
"""

import json
from collections.abc import Iterable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve.engine.storage.folder import check_regular, opened, read, set_aside
from memsolve.engine.storage.lines import Line, from_line

CELLS = "cells.jsonl"
OTHERS = (
    "summary.json",
    "points.csv",
    "report.html",
    "cells.damaged.jsonl",
    "summary.damaged.json",
)
"""What else a study leaves in its folder, beside figures whose names begin with its own."""

LAYOUT = 3
"""Of `cells.jsonl`. In layouts 1 and 2 cells of training had other names for the same fields."""


class StoreError(InputError):
    """A results directory that holds something else, or what cannot be continued."""


def check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder in which a study would overwrite what it has not written.

    Args:
        folder: of results, which need not exist.
        settings: of the study, its name among them, as JSON values.

    Raises:
        StoreError: says what the folder holds, and what to do.
        FolderError: a file in it is no regular file.
    """
    if not folder.is_dir():
        return
    names = (*OTHERS, f"{escape(settings['study'])}*.png")
    others = sorted(path for name in names for path in folder.glob(name))
    for path in [folder / CELLS, *others]:
        check_regular(path)
    try:
        with opened(folder / CELLS, "rb") as file:
            head = head_of(from_line(raw) for raw in file)
    except FileNotFoundError:
        if others:
            raise StoreError(
                f"{folder} holds {_named(others)} without the {CELLS} that a study continues, and "
                "a study would overwrite them; choose another folder"
            ) from None
        return
    except OSError as error:
        raise StoreError(f"{folder / CELLS} cannot be read: {error.strerror}") from error
    check_head(folder, head, settings)
    there = _study_of(folder / "summary.json")
    if there not in (None, settings["study"]):
        raise StoreError(
            f"{folder} holds the summary.json of a {there} study; choose another folder"
        )


def head_of(lines: Iterable[Line | None]) -> Line | None:
    """The first line of settings that has a checksum, or else the first; None without any."""
    first = None
    for line in filter(is_head, lines):
        if line is not None and line.checked:
            return line
        first = first or line
    return first


def is_head(line: Line | None) -> bool:
    """Whether a line holds the settings of a study."""
    return line is not None and isinstance(line.fields.get("settings"), dict)


def check_head(folder: Path, head: Line | None, settings: Mapping[str, Any]) -> Line:
    """The head, unless the cells are of another study, or of another layout.

    Raises:
        StoreError: names the first setting that differs.
    """
    if head is None:
        raise StoreError(
            f"{folder / CELLS} does not say of which study it holds results, as its first line "
            "should; choose another folder"
        )
    there = head.fields["settings"]
    if head.fields.get("layout") != LAYOUT:
        version = there.get("memsolve", "an unknown version")
        raise StoreError(
            f"{folder} holds results of memsolve {version} in a layout that this "
            "version does not continue; finish them with that one, or choose another folder"
        )
    for name, value in settings.items():
        if there.get(name) != value:
            raise differs(folder, name, there.get(name), value)
    return head


def differs(folder: Path, name: str, there: object, now: object, mend: str = "") -> StoreError:
    """What to say where a setting of the results in a folder differs from that of a study."""
    return StoreError(
        f"{folder} holds results of other settings: {name} is {there!r} there and "
        f"{now!r} now; {mend}choose another folder"
    )


def set_damaged_summary_aside(folder: Path) -> Path | None:
    """Keep a `summary.json` that no study wrote, or that is damaged, in the file for such.

    Returns:
        The path of the latter, or None where there was nothing to keep.
    """
    file = folder / "summary.json"
    if (content := read(file)) is None or _study_of(file) is not None:
        return None
    aside = set_aside(file, content + b"\n")
    file.unlink()
    return aside


def _study_of(summary: Path) -> str | None:
    """The study of a `summary.json`; None where there is no such file, or it is damaged."""
    content = read(summary) or b""
    try:
        found = json.loads(content.decode())
        study, command = found["study"], found["command"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return study if isinstance(study, str) and isinstance(command, str) else None


def _named(paths: list[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
