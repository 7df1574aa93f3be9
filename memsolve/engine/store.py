"""Results on disk, appended cell by cell, so that an interrupted study resumes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from memsolve_kernels.errors import InputError

from memsolve.engine.cell import Cell
from memsolve.environment import Environment

LAYOUT = 2
"""Of `cells.jsonl`. In layout 1 one environment, among the settings, stood for all results."""

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound="DataclassInstance")


class StoreError(InputError):
    """A results directory that cannot be written, or that holds something else."""


class Made(NamedTuple, Generic[R]):
    """A result and what made it."""

    result: R
    environment: Environment


class Store(Generic[C, R]):
    """The results of one study in `cells.jsonl`.

    A line of settings, then one an environment, with a key, and one a finished cell, with the key
    of the environment that made it.

    Args:
        folder: made if absent.
        settings: the study and its grid; cells made with others are refused.
        cell: makes a cell of its fields.
        result: makes a result of its fields, as a dataclass does.
        resume: continue with the cells found there; without it, a folder with cells is refused.

    Raises:
        StoreError: says which of the above, and what to do.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        cell: Callable[..., C],
        result: Callable[..., R],
        *,
        resume: bool,
    ) -> None:
        self._file = folder / "cells.jsonl"
        self._settings = dict(settings)
        self._keys: set[str] = set()
        self.made: dict[C, Made[R]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = self._read(cell, result)
            if self.made:
                self._check(found)
                if not resume:
                    raise StoreError(
                        f"{folder} holds results; add --resume (resume=True) to continue them, "
                        "or choose another folder"
                    )
            self._rewrite()
        except OSError as error:
            raise StoreError(f"{folder} cannot be used for results: {error.strerror}") from error

    def add(self, cell: C, result: R, environment: Environment) -> None:
        """Keep the result of a finished cell, in memory and on disk."""
        self.made[cell] = Made(result, environment)
        with self._file.open("a") as lines:
            lines.write(self._lines(cell, self.made[cell]))

    def expect(self, environment: Environment) -> None:
        """Refuse results of another environment than the one that would go on.

        Raises:
            StoreError: names the first setting in which they differ.
        """
        for made in self.made.values():
            for name, value in environment.items():
                found = made.environment.get(name)
                if found != value:
                    mend = "set OMP_NUM_THREADS as there, or " if name == "threads" else ""
                    raise self._other(name, found, value, mend)

    def _read(self, cell: Callable[..., C], result: Callable[..., R]) -> dict[str, Any]:
        """Take what whole lines hold; the first line's settings."""
        head: dict[str, Any] = {}
        environments: dict[str, Environment] = {}
        text = self._file.read_text(errors="replace") if self._file.exists() else ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("settings"), dict):
                    head = dict(entry)
                    self._refuse_old(head)
                elif "environment" in entry:
                    environments[entry["key"]] = dict(entry["environment"])
                else:
                    made = Made(result(**entry["result"]), environments[entry["made"]])
                    self.made[cell(**entry["cell"])] = made
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, StoreError):
                    raise
                continue  # torn by a kill: the cell runs again
        if text and not head:
            raise StoreError(f"{self._file} was not written by a study; choose another folder")
        return dict(head.get("settings", {}))

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
        whole = self._file.with_suffix(".tmp")
        lines = [self._lines(cell, made) for cell, made in self.made.items()]
        head = json.dumps({"layout": LAYOUT, "settings": self._settings}) + "\n"
        whole.write_text("".join([head, *lines]))
        whole.replace(self._file)

    def _lines(self, cell: C, made: Made[R]) -> str:
        """The cell's line, after the line of its environment if that is new."""
        key = _key(made.environment)
        lines = []
        if key not in self._keys:
            self._keys.add(key)
            lines.append({"key": key, "environment": made.environment})
        lines.append({"cell": asdict(cell), "result": asdict(made.result), "made": key})
        return "".join(json.dumps(line) + "\n" for line in lines)


def _key(environment: Environment) -> str:
    text = json.dumps(environment, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
