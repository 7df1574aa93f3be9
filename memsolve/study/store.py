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
    """The results of one study, in `cells.jsonl`: its settings, then one line a finished cell.

    Args:
        folder: made if absent.
        settings: what decides the numbers; cells made with others are refused.
        resume: continue with the cells found there; without it, a folder with cells is refused.

    Raises:
        StoreError: says which of the above, and what to do.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self._file = folder / "cells.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found, self.results = self._read()
            if self.results:
                self._check(found, settings)
                if not resume:
                    raise StoreError(
                        f"{folder} holds results; add --resume (resume=True) to continue them, "
                        "or choose another folder"
                    )
            self._rewrite(settings)
        except OSError as error:
            raise StoreError(f"{folder} cannot be used for results: {error.strerror}") from error

    def add(self, cell: Cell, result: Result) -> None:
        """Keep the result of a finished cell, in memory and on disk."""
        self.results[cell] = result
        with self._file.open("a") as lines:
            lines.write(_line(cell, result))

    def _read(self) -> tuple[dict[str, Any], dict[Cell, Result]]:
        settings: dict[str, Any] = {}
        results: dict[Cell, Result] = {}
        text = self._file.read_text(errors="replace") if self._file.exists() else ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                if "settings" in entry:
                    settings = dict(entry["settings"])
                else:
                    results[Cell(**entry["cell"])] = entry["result"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill: the cell runs again
        return settings, results

    def _check(self, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if found.get(name) != value:
                mend = "set OMP_NUM_THREADS as there, or " if name == "threads" else ""
                raise StoreError(
                    f"{self._file.parent} holds results of other settings: {name} is "
                    f"{found.get(name)!r} there and {value!r} now; {mend}choose another folder"
                )

    def _rewrite(self, settings: Mapping[str, Any]) -> None:
        """Settings and whole lines only, at once: a torn line would swallow the next result."""
        lines = [_line(cell, result) for cell, result in self.results.items()]
        whole = self._file.with_suffix(".tmp")
        whole.write_text("".join([json.dumps({"settings": settings}) + "\n", *lines]))
        whole.replace(self._file)


def _line(cell: Cell, result: Result) -> str:
    return json.dumps({"cell": asdict(cell), "result": result}) + "\n"
