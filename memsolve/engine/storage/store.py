"""Results on disk, appended cell by cell, so that interrupted and growing studies continue."""

import gc
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memsolve.engine.cell import Cell
from memsolve.engine.storage import ownership
from memsolve.engine.storage.decode import from_json
from memsolve.engine.storage.folder import read, remove_partials, set_aside, write
from memsolve.engine.storage.journal import Journal
from memsolve.engine.storage.lines import from_line, to_line
from memsolve.engine.storage.ownership import CELLS_LAYOUT, StoreError
from memsolve.environment import Environment

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound="DataclassInstance")

__all__ = ["Store", "StoreError"]

log = logging.getLogger(__name__)

REPLACED = ownership.CELLS, "summary.json", "points.csv"
"""Files that are replaced under the folder's lock; a killed process may leave temporary ones."""

ONE_RANK: Environment = {"ranks": 1}
"""Of an environment that says nothing of ranks."""

ADVICE = {
    "threads": "set OMP_NUM_THREADS as there, or ",
    "ranks": "start as many ranks as there, or ",
}
"""What to do about settings of the environment, by name."""


class Store(Generic[C, R]):
    """The results of one study in `cells.jsonl`.

    The file holds a line of settings, a line with a key for each producer (the environment and
    optimizer that measured a result), and a line for each finished cell, with its producer's key.
    Results of a producer other than the present one stay in the file, and are used again when that
    producer returns.

    A torn or altered line loses its cell only. Such lines are moved byte by byte to
    `cells.damaged.jsonl`, and counted in a logged warning. Lines with fields of a later version
    stay where they are.

    Args:
        folder: of results, which exists and is locked (`folder.alone`).
        settings: shared by all cells; results with other settings are refused.
        cell: class of the cells.
        result: class of the results.
        resume: continue with the cells in the file; otherwise a folder with cells is refused.

    Raises:
        StoreError: the folder belongs to another study or other settings, or holds results that
            are not to be resumed.
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
        self._folder = folder
        self._file = folder / ownership.CELLS
        self._settings = json.loads(json.dumps(settings))
        self._cell, self._result = cell, result
        self._producers: dict[str, Environment] = {}
        self._results: dict[tuple[C, str], R] = {}
        ownership.check(folder, self._settings)
        if (content := read(self._file)) is None:
            write(self._file, self._content())
        else:
            with without_collector():
                self._continue(content.split(b"\n"), resume=resume)
        if aside := ownership.set_damaged_summary_aside(folder):
            log.warning("%s: summary.json is damaged; it was moved to %s", folder, aside.name)
        for name in REPLACED:
            remove_partials(folder / name)
        self._journal = Journal(self._file, self._content)

    def find(self, cell: C, producer: Environment) -> R | None:
        """The result of a cell by a producer; None without one, and for a failed result."""
        result = self._results.get((cell, _key(producer)))
        return None if getattr(result, "failed", False) else result

    def add(self, cell: C, result: R, producer: Environment) -> None:
        """Keep the result of a finished cell in memory and on disk.

        Raises:
            FolderError: the file cannot be written.
        """
        key = _key(producer)
        line = "" if key in self._producers else _producer_line(key, producer)
        self._journal.append(line + _result_line(cell, result, key))
        self._producers[key] = producer
        self._results[cell, key] = result

    def mark_failed(self, cell: C, reason: str, producer: Environment) -> None:
        """Record why a cell failed; it is measured again when the study is resumed."""
        fields = {"cell": asdict(cell), "failed": reason, "environment": producer}
        self._journal.append(to_line(fields))

    def close(self) -> None:
        """Flush what is not on disk yet; see `Journal`."""
        self._journal.close()

    def expect(self, environment: Environment) -> None:
        """Refuse results of an environment other than the present one.

        Raises:
            StoreError: names the first setting in which they differ.
        """
        used = {key for _, key in self._results}
        for key in self._producers.keys() & used:
            producer = ONE_RANK | self._producers[key]
            for name, value in (ONE_RANK | environment).items():
                stored = producer.get(name)
                if stored != value:
                    advice = ADVICE.get(name, "")
                    raise ownership.settings_differ(self._folder, name, stored, value, advice)

    def _continue(self, lines: list[bytes], *, resume: bool) -> None:
        """Read the results of a file, and leave only its intact lines in it."""
        intact, damaged = self._read(lines)
        if self._results and not resume:
            raise StoreError(
                f"{self._folder} holds results; add --resume (resume=True) to continue them, "
                "or choose another folder"
            )
        if damaged:
            aside = set_aside(self._file, _joined(damaged))
            log.warning(
                "%s: %d damaged %s moved to %s; their cells are measured again",
                self._file,
                len(damaged),
                "line was" if len(damaged) == 1 else "lines were",
                aside.name,
            )
        if damaged or lines[-1]:  # the next line would continue an unfinished one
            write(self._file, _joined(intact))

    def _read(self, lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Read the content of lines; return the intact and the damaged ones."""
        head = ownership.find_head(map(from_line, lines))
        head = ownership.check_head(self._folder, head, self._settings)
        intact: list[bytes] = []
        damaged: list[bytes] = []
        for raw in filter(bytes.strip, lines):
            line = from_line(raw)
            if line is not None and line.checked < head.checked:
                line = None
            if ownership.is_head(line):
                ownership.check_head(self._folder, line, self._settings)
            valid = line is not None and self._read_line(line.fields)
            (intact if valid else damaged).append(raw)
        return intact, damaged

    def _read_line(self, fields: Mapping[str, Any]) -> bool:
        """Read the content of a line; False if it is damaged."""
        try:
            if "settings" in fields or "failed" in fields:
                return isinstance(fields.get("settings", {}), dict)
            if "environment" in fields:
                return self._read_producer(fields["key"], dict(fields["environment"]))
            cell = from_json(self._cell, fields["cell"])
            result = from_json(self._result, fields["result"])
            if fields["cell"].keys() <= vars(cell).keys():  # else of a later version
                self._results[cell, fields["producer"]] = result
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def _read_producer(self, key: str, producer: Environment) -> bool:
        if key != _key(producer):
            return False
        self._producers[key] = producer
        return True

    def _content(self) -> str:
        """The complete content of the file."""
        head = to_line({"layout": CELLS_LAYOUT, "settings": self._settings})
        producers = [_producer_line(key, each) for key, each in self._producers.items()]
        results = [_result_line(cell, each, key) for (cell, key), each in self._results.items()]
        return "".join([head, *producers, *results])


@contextmanager
def without_collector() -> Iterator[None]:
    """Pause the garbage collector: reading makes many objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _producer_line(key: str, producer: Environment) -> str:
    return to_line({"key": key, "environment": producer})


def _result_line(cell: Cell, result: "DataclassInstance", key: str) -> str:
    return to_line({"cell": asdict(cell), "result": asdict(result), "producer": key})


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _key(producer: Environment) -> str:
    text = json.dumps(producer, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
