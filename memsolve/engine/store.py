"""Results on disk, appended cell by cell, so that an interrupted or a growing study goes on."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from memsolve_kernels.errors import InputError

from memsolve.engine.cell import Cell
from memsolve.engine.folder import append, write
from memsolve.engine.plain import from_json
from memsolve.environment import Environment

LAYOUT = 2
"""Of `cells.jsonl`. In layout 1 one environment, among the settings, stood for all results."""

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound="DataclassInstance")


class StoreError(InputError):
    """A results directory that holds something else, or what cannot be continued."""


class Made(NamedTuple, Generic[R]):
    """A result and what made it: environment, and identity of the optimizer."""

    result: R
    by: Environment


class Store(Generic[C, R]):
    """The results of one study in `cells.jsonl`.

    A line of settings, then one for whatever has made results, with a key, and one a finished
    cell, with the key of what made it. Results of another optimizer than the one that bears the
    name now stay in the file, and count again if that one returns. A damaged line costs its cells.

    Args:
        folder: of results, which exists.
        settings: what the cells do not say of themselves; results made with others are refused.
        cell: the class of its cells.
        result: the class of its results.
        resume: continue with the cells found there; without it, a folder with cells is refused.

    Raises:
        StoreError: says which of the above, and what to do.
        FolderError: the file cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        cell: type[C],
        result: type[R],
        *,
        resume: bool,
    ) -> None:
        self._file = folder / "cells.jsonl"
        self._settings = json.loads(json.dumps(settings))
        self._keys: set[str] = set()
        self._made: dict[tuple[C, str], Made[R]] = {}
        found = self._read(cell, result)
        if self._made:
            self._check(found)
            if not resume:
                raise StoreError(
                    f"{folder} holds results; add --resume (resume=True) to continue them, "
                    "or choose another folder"
                )
        self._rewrite()

    def find(self, cell: C, by: Environment) -> R | None:
        """The result of a cell, if this has made it, and it is not one of a failure."""
        made = self._made.get((cell, _key(by)))
        if made is None or getattr(made.result, "failed", False):
            return None
        return made.result

    def add(self, cell: C, result: R, by: Environment) -> None:
        """Keep the result of a finished cell, in memory and on disk."""
        made = self._made[cell, _key(by)] = Made(result, by)
        append(self._file, self._lines(cell, made))

    def mark(self, cell: C, reason: str, by: Environment) -> None:
        """Note on disk why a cell has failed; it is tried again when the study is resumed."""
        line = {"cell": asdict(cell), "failed": reason, "environment": by}
        append(self._file, json.dumps(line) + "\n")

    def expect(self, environment: Environment) -> None:
        """Refuse results of another environment than the one that would go on.

        Raises:
            StoreError: names the first setting in which they differ.
        """
        for made in self._made.values():
            for name, value in environment.items():
                found = made.by.get(name)
                if found != value:
                    mend = "set OMP_NUM_THREADS as there, or " if name == "threads" else ""
                    raise self._other(name, found, value, mend)

    def _read(self, cell: type[C], result: type[R]) -> Mapping[str, Any]:
        """Take what whole lines hold; the first line's settings."""
        found: dict[str, Any] = {}
        makers: dict[str, Environment] = {}
        entries = list(_entries(self._file))
        for entry in entries:
            try:
                if isinstance(entry.get("settings"), dict):
                    found = entry["settings"]
                    self._refuse_old(entry)
                elif "failed" in entry:
                    continue
                elif "environment" in entry:
                    makers[entry["key"]] = dict(entry["environment"])
                else:
                    made = Made(from_json(result, entry["result"]), makers[entry["made"]])
                    self._made[from_json(cell, entry["cell"]), _key(made.by)] = made
            except StoreError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # torn by a kill, or damaged: the cell runs again
        if entries and not found:
            raise StoreError(
                f"{self._file} does not say of which study it holds results, as its first line "
                "should; choose another folder"
            )
        return found

    def _refuse_old(self, head: Mapping[str, Any]) -> None:
        if head.get("layout") != LAYOUT:
            version = head["settings"].get("memsolve", "an unknown version")
            raise StoreError(
                f"{self._file.parent} holds results of memsolve {version} in a layout that this "
                "version does not continue; finish them with that one, or choose another folder"
            )

    def _check(self, found: Mapping[str, Any]) -> None:
        for name, value in self._settings.items():
            if found.get(name) != value:
                raise self._other(name, found.get(name), value)

    def _other(self, name: str, there: object, now: object, mend: str = "") -> StoreError:
        return StoreError(
            f"{self._file.parent} holds results of other settings: {name} is {there!r} there and "
            f"{now!r} now; {mend}choose another folder"
        )

    def _rewrite(self) -> None:
        """Settings and whole lines only, at once: a torn line would swallow the next result."""
        lines = [self._lines(cell, made) for (cell, _), made in self._made.items()]
        head = json.dumps({"layout": LAYOUT, "settings": self._settings}) + "\n"
        write(self._file, "".join([head, *lines]))

    def _lines(self, cell: C, made: Made[R]) -> str:
        """The cell's line, after the line of what made it if that is new."""
        key = _key(made.by)
        lines = []
        if key not in self._keys:
            self._keys.add(key)
            lines.append({"key": key, "environment": made.by})
        lines.append({"cell": asdict(cell), "result": asdict(made.result), "made": key})
        return "".join(json.dumps(line) + "\n" for line in lines)


def _entries(file: Path) -> Iterable[Any]:
    """What the lines hold that are JSON.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from error
    for line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield None


def _key(by: Environment) -> str:
    text = json.dumps(by, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
