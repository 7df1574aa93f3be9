"""Results on disk, appended cell by cell, so that an interrupted study resumes."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve.study.grid import Cell

Result = dict[str, float]


class StoreError(InputError):
    """A results directory that cannot be written, or that holds something else."""


class Store:
    """The folder of one study: `settings.json` and one line a finished cell in `cells.jsonl`.

    Args:
        folder: made if absent.
        settings: what decides the numbers; a folder with others is refused.
        resume: continue with the cells found there; without it, a folder with cells is refused.

    Raises:
        StoreError: says which of the above, and what to do.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self._cells = folder / "cells.jsonl"
        self._settings = folder / "settings.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._settings.exists():
                self._check(settings)
            if self._cells.exists() and not resume:
                raise StoreError(
                    f"{folder} holds results; add --resume (resume=True) to continue them, "
                    "or choose another folder"
                )
            self._settings.write_text(json.dumps(settings, indent=2) + "\n")
            self.results = self._read()
            self._rewrite()
        except OSError as error:
            raise StoreError(f"{folder} cannot be used for results: {error.strerror}") from error

    def add(self, cell: Cell, result: Result) -> None:
        """Keep the result of a finished cell, in memory and on disk."""
        self.results[cell] = result
        with self._cells.open("a") as lines:
            lines.write(_line(cell, result))

    def _check(self, settings: Mapping[str, Any]) -> None:
        try:
            found = json.loads(self._settings.read_text())
        except ValueError:
            found = {}
        for name, value in settings.items():
            if found.get(name) != value:
                raise StoreError(
                    f"{self._settings.parent} holds results of other settings: {name} is "
                    f"{found.get(name)!r} there and {value!r} now; choose another folder"
                )

    def _read(self) -> dict[Cell, Result]:
        results: dict[Cell, Result] = {}
        for line in self._cells.read_text().splitlines() if self._cells.exists() else []:
            try:
                entry = json.loads(line)
                results[Cell(**entry["cell"])] = entry["result"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill: the cell runs again
        return results

    def _rewrite(self) -> None:
        """Drop torn lines, or the next result would be appended to one."""
        whole = self._cells.with_suffix(".tmp")
        whole.write_text("".join(_line(cell, result) for cell, result in self.results.items()))
        whole.replace(self._cells)


def _line(cell: Cell, result: Result) -> str:
    return json.dumps({"cell": asdict(cell), "result": result}) + "\n"
