"""Measures cells side by side, in the workers of an executor.

The numbers are those of one process: results are pure functions of their cells, and this process
alone writes them and decides which cells follow.
"""

import logging
import queue
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, NamedTuple

from memsolve.engine.execution.remote import RemoteRunner
from memsolve.engine.measure import Measurement, R
from memsolve.engine.results.summary import P
from memsolve.engine.study import C, G
from memsolve.faults import KilledError, MachineError, StepError

log = logging.getLogger(__name__)


class Submission(NamedTuple, Generic[C]):
    """Cells of one task.

    Attributes:
        cells: of one group, see `Study.group`.
        alone: no other task runs meanwhile.
    """

    cells: Sequence[C]
    alone: bool


@dataclass
class Part(Generic[C]):
    """The cells of one part of a study, see `Study.part`.

    Attributes:
        cells: in the order in which they were requested.
        unfinished: how many of them have neither a result nor an error yet.
    """

    cells: dict[C, None] = field(default_factory=dict)
    unfinished: int = 0


@dataclass(kw_only=True)
class ParallelMeasurement(Measurement[G, C, R, P]):
    """The measurement of a study by an executor.

    The longest cells are submitted first. A part of the study goes on as soon as its own cells are
    finished. A cell whose worker ended, or whose worker's machine failed, is measured again, alone
    and after the others. So are the cells whose times are reported, one after another.

    Attributes:
        runner: submits to the executor.
    """

    runner: RemoteRunner
    _running: dict[Future[bytes], Submission[C]] = field(default_factory=dict)
    _answered: "queue.SimpleQueue[Future[bytes]]" = field(default_factory=queue.SimpleQueue)
    _alone: deque[C] = field(default_factory=deque)
    _parts: dict[Hashable, Part[C]] = field(default_factory=dict)

    def _measure(self, cells: Sequence[C]) -> None:
        """Measure cells, and those that follow from the results of each part."""
        try:
            unfinished = self._request(cells)
            if not unfinished:
                return
            kept = sum(cell in self.results for cell in cells)
            with self.progress(self.study.name, kept + unfinished, kept) as advance:
                for cell, following in self._finished_cells():
                    more = [following] if following else []
                    advance(self._description(cell), *more)
        finally:
            for future in self._running:
                future.cancel()
            self._running.clear()

    def _request(self, cells: Sequence[C]) -> int:
        """Submit the cells without a result; return how many they are, with those that follow."""
        missing = self._missing(cells)
        for cell in cells:
            self._part(cell).cells[cell] = None
        for cell in missing:
            self._part(cell).unfinished += 1
        self._alone += [cell for cell in missing if self._is_timed(cell)]
        for group in self._longest_first([cell for cell in missing if not self._is_timed(cell)]):
            self._submit(Submission(group, alone=False))
        parts = dict.fromkeys(map(self.study.part, cells))
        return len(missing) + sum(self._request(self._next_cells(part)) for part in parts)

    def _next_cells(self, part: Hashable) -> list[C]:
        """Further cells of a part whose cells all have a result; None stands for no part.

        As in `Measurement.run`, an optimizer with a failed cell at an alpha gets none there.
        """
        if part is None or self._parts[part].unfinished:
            return []
        cells = self._parts[part].cells
        failed = {(cell.optimizer, cell.alpha) for cell in self.errors}
        if any((cell.optimizer, cell.alpha) in failed for cell in cells):
            return []
        results = {cell: self.results[cell] for cell in cells}
        return [cell for cell in self.study.next_cells(self.grid, results) if cell not in cells]

    def _longest_first(self, cells: Sequence[C]) -> list[list[C]]:
        """Cells in groups that share work, those that take longest first."""
        groups: dict[Hashable, list[C]] = {}
        for cell in cells:
            groups.setdefault(self.study.group(cell), []).append(cell)

        def cost(group: Sequence[C]) -> float:
            return sum(self.study.cost(self.grid, cell) for cell in group)

        return sorted(groups.values(), key=cost, reverse=True)

    def _submit(self, submission: Submission[C]) -> None:
        cells = submission.cells
        future = self.runner.submit(self.study.measure, self.grid, cells)
        self._running[future] = submission
        future.add_done_callback(self._answered.put)

    def _finished_cells(self) -> Iterator[tuple[C, int]]:
        """Cells in the order in which they finish, and how many follow from each."""
        while self._running or self._alone:
            if not self._running:
                self._submit(Submission([self._alone.popleft()], alone=True))
            for cell in self._receive(self._answered.get()):
                self._part(cell).unfinished -= 1
                yield cell, self._request(self._next_cells(self.study.part(cell)))

    def _receive(self, future: Future[bytes]) -> list[C]:
        """Take the answer of a task; return the cells that are finished by it."""
        cells, alone = self._running.pop(future)
        try:
            answer = self.runner.receive(future)
        except KilledError as error:
            return self._add_failure(cells[0], error, alone=True) if alone else self._defer(cells)
        log.info(
            "%.6f to %.6f: %s, %d cells from %s",
            *(answer.start, answer.stop, answer.worker, len(cells), cells[0]),
        )
        finished = list(cells[: len(answer.values)])
        for cell, result in zip(finished, answer.values, strict=True):
            timed = alone and self._is_timed(cell)
            self._add_result(cell, result if timed else self.study.without_times(result))
        if answer.error is None:
            return finished
        if not isinstance(answer.error, StepError | MachineError):
            raise answer.error
        failed, *rest = cells[len(finished) :]
        if rest:
            self._submit(Submission(rest, alone))
        return finished + self._add_failure(failed, answer.error, alone=alone)

    def _add_failure(self, cell: C, error: StepError | MachineError, *, alone: bool) -> list[C]:
        """Take the failure of a cell; the cell, unless it is measured again alone."""
        if isinstance(error, MachineError) and not alone:
            return self._defer([cell])
        self._add_error(cell, error)
        return [cell]

    def _defer(self, cells: Sequence[C]) -> list[C]:
        """Measure cells again, each alone, after the others; none of them is finished."""
        self._alone.extendleft(reversed(cells))
        return []

    def _part(self, cell: C) -> Part[C]:
        return self._parts.setdefault(self.study.part(cell), Part())

    def _is_timed(self, cell: C) -> bool:
        return self.study.is_timed(self.grid, cell)
