"""Which study a folder belongs to: a study writes into its own folder, or into one without results.

A folder belongs to a study if its `cells.jsonl` begins with the study's name and settings.
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
"""Further files of a study; its figures have names that begin with the study's."""

CELLS_LAYOUT = 3
"""Of `cells.jsonl`. In layouts 1 and 2 cells of training had other names for the same fields."""


SETTINGS_OF_EARLIER_VERSIONS: Mapping[str, Any] = {"anisotropy": 0.0, "output_anisotropy": 0.0}
"""Settings that results of earlier versions do not name, and the values they were measured with."""


class StoreError(InputError):
    """A folder that holds other files, or results that cannot be continued."""


def check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder in which a study would overwrite files of others.

    Args:
        folder: of results, which need not exist.
        settings: of the study, its name among them, as JSON values.

    Raises:
        StoreError: names the files in the folder, and says what to do.
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
            head = find_head(from_line(raw) for raw in file)
    except FileNotFoundError:
        if others:
            raise StoreError(
                f"{folder} holds {_format_names(others)} without the {CELLS} that a study "
                "continues, and a study would overwrite them; choose another folder"
            ) from None
        return
    except OSError as error:
        raise StoreError(f"{folder / CELLS} cannot be read: {error.strerror}") from error
    check_head(folder, head, settings)
    owner = _study_of(folder / "summary.json")
    if owner not in (None, settings["study"]):
        raise StoreError(
            f"{folder} holds the summary.json of a {owner} study; choose another folder"
        )


def find_head(lines: Iterable[Line | None]) -> Line | None:
    """The first line of settings with a checksum, else the first without; None without any."""
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
    """The head, if the cells belong to this study and are in this layout.

    Raises:
        StoreError: names the first setting that differs.
    """
    if head is None:
        raise StoreError(
            f"{folder / CELLS} does not name its study in the first line; choose another folder"
        )
    stored = {**SETTINGS_OF_EARLIER_VERSIONS, **head.fields["settings"]}
    if head.fields.get("layout") != CELLS_LAYOUT:
        version = stored.get("memsolve", "up to 0.2.0")
        raise StoreError(
            f"{folder} holds results of memsolve {version} in a layout that this "
            "version does not continue; finish them with that one, or choose another folder"
        )
    for name, value in settings.items():
        if stored.get(name) != value:
            raise settings_differ(folder, name, stored.get(name), value)
    return head


def settings_differ(
    folder: Path, name: str, stored: object, now: object, advice: str = ""
) -> StoreError:
    """The error for a setting of stored results that differs from the study's."""
    return StoreError(
        f"{folder} holds results of other settings: {name} is {stored!r} there and "
        f"{now!r} now; {advice}choose another folder"
    )


def set_damaged_summary_aside(folder: Path) -> Path | None:
    """Move a damaged `summary.json`, or one that no study wrote, to `summary.damaged.json`.

    Returns:
        The path of that file, or None if nothing was moved.
    """
    file = folder / "summary.json"
    if (content := read(file)) is None or _study_of(file) is not None:
        return None
    aside = set_aside(file, content + b"\n")
    file.unlink()
    return aside


def _study_of(summary: Path) -> str | None:
    """The study of a `summary.json`; None if the file is missing or damaged."""
    content = read(summary) or b""
    try:
        fields = json.loads(content.decode())
        study, command = fields["study"], fields["command"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return study if isinstance(study, str) and isinstance(command, str) else None


def _format_names(paths: list[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
