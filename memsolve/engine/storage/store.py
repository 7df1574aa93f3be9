"""Results on disk, appended cell by cell, so that an interrupted or a growing study goes on."""

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
from memsolve.engine.storage.ownership import LAYOUT, StoreError
from memsolve.environment import Environment

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound="DataclassInstance")

__all__ = ["Store", "StoreError"]

log = logging.getLogger(__name__)

WRITTEN_WHOLE = ownership.CELLS, "summary.json", "points.csv"
"""Files that are written under the folder's lock, and may have been left in part."""


class Store(Generic[C, R]):
    """The results of one study in `cells.jsonl`.

    A line of settings, then one for whatever has made results, with a key, and one a finished
    cell, with the key of what made it. Results of another optimizer than the one that bears the
    name now stay in the file, and count again if that one returns.

    A line that is torn, or not as it was written, costs its cell. Such lines are moved byte by
    byte to `cells.damaged.jsonl`, and their number is logged as a warning. Lines with fields that
    only a later version knows stay where they are.

    Args:
        folder: of results, which exists and is held (`folder.alone`).
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
        self._folder = folder
        self._file = folder / ownership.CELLS
        self._settings = json.loads(json.dumps(settings))
        self._cell, self._result = cell, result
        self._makers: dict[str, Environment] = {}
        self._results: dict[tuple[C, str], R] = {}
        ownership.check(folder, self._settings)
        if (content := read(self._file)) is None:
            write(self._file, self._whole())
        else:
            with without_collector():
                self._continue(content.split(b"\n"), resume=resume)
        if aside := ownership.set_damaged_summary_aside(folder):
            log.warning("%s: summary.json is damaged; it was moved to %s", folder, aside.name)
        for name in WRITTEN_WHOLE:
            remove_partials(folder / name)
        self._journal = Journal(self._file, self._whole)

    def find(self, cell: C, by: Environment) -> R | None:
        """The result of a cell, if this has made it, and it is not one of a failure."""
        result = self._results.get((cell, _key(by)))
        return None if getattr(result, "failed", False) else result

    def add(self, cell: C, result: R, by: Environment) -> None:
        """Keep the result of a finished cell, in memory and on disk.

        Raises:
            FolderError: the file cannot be written.
        """
        key = _key(by)
        maker = "" if key in self._makers else _maker_line(key, by)
        self._journal.append(maker + _result_line(cell, result, key))
        self._makers[key] = by
        self._results[cell, key] = result

    def mark_failed(self, cell: C, reason: str, by: Environment) -> None:
        """Note on disk why a cell has failed; it is tried again when the study is resumed."""
        self._journal.append(to_line({"cell": asdict(cell), "failed": reason, "environment": by}))

    def close(self) -> None:
        """Flush what is not on disk yet; see `Journal`."""
        self._journal.close()

    def expect(self, environment: Environment) -> None:
        """Refuse results of another environment than the one that would go on.

        Raises:
            StoreError: names the first setting in which they differ.
        """
        made = {key for _, key in self._results}
        for key in self._makers.keys() & made:
            for name, value in environment.items():
                found = self._makers[key].get(name)
                if found != value:
                    mend = "set OMP_NUM_THREADS as there, or " if name == "threads" else ""
                    raise ownership.differs(self._folder, name, found, value, mend)

    def _continue(self, lines: list[bytes], *, resume: bool) -> None:
        """Take the results of a file, and leave whole lines in it."""
        good, damaged = self._take(lines)
        if self._results and not resume:
            raise StoreError(
                f"{self._folder} holds results; add --resume (resume=True) to continue them, "
                "or choose another folder"
            )
        if damaged:
            aside = set_aside(self._file, _joined(damaged))
            log.warning(
                "%s: %d damaged %s moved to %s; what is lost by that is measured again",
                self._file,
                len(damaged),
                "line was" if len(damaged) == 1 else "lines were",
                aside.name,
            )
        if damaged or lines[-1]:  # the next line would continue an unfinished one
            write(self._file, _joined(good))

    def _take(self, lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Take what lines hold; those that are whole, and those that are damaged."""
        head = ownership.head_of(map(from_line, lines))
        head = ownership.check_head(self._folder, head, self._settings)
        good: list[bytes] = []
        damaged: list[bytes] = []
        for raw in filter(bytes.strip, lines):
            line = from_line(raw)
            if line is not None and line.checked < head.checked:
                line = None
            if ownership.is_head(line):
                ownership.check_head(self._folder, line, self._settings)
            whole = line is not None and self._take_line(line.fields)
            (good if whole else damaged).append(raw)
        return good, damaged

    def _take_line(self, found: Mapping[str, Any]) -> bool:
        """Take what a line holds; False where that is damaged."""
        try:
            if "settings" in found or "failed" in found:
                return isinstance(found.get("settings", {}), dict)
            if "environment" in found:
                return self._take_maker(found["key"], dict(found["environment"]))
            cell = from_json(self._cell, found["cell"])
            result = from_json(self._result, found["result"])
            if found["cell"].keys() <= vars(cell).keys():  # else of a later version
                self._results[cell, found["made"]] = result
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def _take_maker(self, key: str, by: Environment) -> bool:
        if key != _key(by):
            return False
        self._makers[key] = by
        return True

    def _whole(self) -> str:
        """All that is known, as the content of the file."""
        head = to_line({"layout": LAYOUT, "settings": self._settings})
        makers = [_maker_line(key, by) for key, by in self._makers.items()]
        results = [_result_line(cell, of, key) for (cell, key), of in self._results.items()]
        return "".join([head, *makers, *results])


@contextmanager
def without_collector() -> Iterator[None]:
    """No search for reference cycles meanwhile: many objects and no cycles are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _maker_line(key: str, by: Environment) -> str:
    return to_line({"key": key, "environment": by})


def _result_line(cell: Cell, result: "DataclassInstance", key: str) -> str:
    return to_line({"cell": asdict(cell), "result": asdict(result), "made": key})


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _key(by: Environment) -> str:
    text = json.dumps(by, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
