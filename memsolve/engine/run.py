"""Measuring the cells of a study: each once, what is on disk not again, what fails marked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memsolve.engine.calls import Calls, call
from memsolve.engine.cell import Cell
from memsolve.engine.grid import Grid
from memsolve.engine.prepare import only
from memsolve.engine.progress import Advance, Progress
from memsolve.engine.room import sized
from memsolve.engine.store import Store
from memsolve.engine.summary import Failure, Fit
from memsolve.environment import Environment
from memsolve.faults import MachineError, OutOfMemoryError, StepError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from memsolve.engine.study import Study

C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound="DataclassInstance")


@dataclass
class Run(Generic[C, R]):
    """The run of a study.

    Attributes:
        study: what is run.
        grid: what it varies.
        makers: what makes the results of each optimizer, by label.
        store: keeps them, if anything does.
        calls: runs the optimizers.
        progress: shows how far it is.
        results: of the cells that were measured, in their order.
        failed: why the others could not be.
    """

    study: "Study[C, R, Any]"
    grid: Grid
    makers: Mapping[str, Environment]
    store: Store[C, R] | None
    calls: Calls
    progress: Progress
    results: dict[C, R] = field(default_factory=dict)
    failed: dict[C, StepError | MachineError] = field(default_factory=dict)

    def measure(self, cells: list[C]) -> None:
        """Measure cells, and the further ones that their results call for.

        Where a cell has failed, no further one is measured: its optimizer at that alpha is left
        out, and what would be called for may depend on the result that is missing.
        """
        done: list[C] = []
        while cells:
            self._take(cells)
            done += cells
            bad = {(cell.optimizer, cell.alpha) for cell in self.failed}
            whole = {
                cell: result
                for cell, result in self.results.items()
                if (cell.optimizer, cell.alpha) not in bad
            }
            cells = self.study.more(self.grid, whole)
        # in one order, whatever was kept
        self.results = {cell: self.results[cell] for cell in done if cell in self.results}

    def fits(self) -> list[Fit[Any]]:
        """What the results come to, where no cell has failed.

        Raises:
            StepError: there is no such optimizer.
            MachineError: there is none, because the machine failed.
        """
        if not self.failed:
            return self._fits(self.grid)
        fits: list[Fit[Any]] = []
        for alpha in self.grid.alphas:
            bad = {cell.optimizer for cell in self.failed if cell.alpha == alpha}
            whole = [label for label in self.grid.labels if label not in bad]
            if whole:
                part = replace(only(self.grid, whole), alphas=[alpha])
                fits += self._fits(part)
        if not fits:
            failures = self.failures()
            if machine := [failure for failure in failures if failure.machine]:
                raise MachineError(unfinished(self.study.name, machine))
            raise StepError(f"every optimizer failed: {'; '.join(map(str, failures))}")
        return fits

    def failures(self) -> list[Failure]:
        """Cells that failed, and runs that ended in a failure, together where they are alike."""
        ended = {
            cell: StepError(reason)
            for cell, result in self.results.items()
            if (reason := str(getattr(result, "failed", "")))
        }
        alike: dict[tuple[str, float, int, bool], list[str]] = {}
        for cell, error in (self.failed | ended).items():
            kind = cell.optimizer, cell.alpha, cell.dim, isinstance(error, MachineError)
            alike.setdefault(kind, []).append(str(error))
        return [
            Failure(name, alpha, dim, len(reasons), reasons[0], machine)
            for (name, alpha, dim, machine), reasons in alike.items()
        ]

    def _fits(self, grid: Grid) -> list[Fit[Any]]:
        try:
            return call(self.calls, partial(self.study.fits, grid, self.results), math.inf)
        except OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{error} for the fits of {self.study.name}; all results are kept in --out, and "
                "--resume goes on from them"
            ) from error

    def _take(self, cells: Sequence[C]) -> None:
        """Take the results that are kept, and measure the others."""
        kept = {cell: self.store.find(cell, self._maker(cell)) for cell in cells if self.store}
        self.results |= {cell: result for cell, result in kept.items() if result is not None}
        left = [cell for cell in cells if kept.get(cell) is None]
        with self.progress(self.study.name, len(cells), len(cells) - len(left)) as advance:
            for _, group in groupby(left, lambda cell: cell.memory):
                together = list(group)
                while together:
                    cell = self._measure_until_failure(together, advance)
                    together = [] if cell is None else together[together.index(cell) + 1 :]

    def _measure_until_failure(self, cells: Sequence[C], advance: Advance) -> C | None:
        """Measure cells of one memory; the first that fails, which ends it, if one does."""
        waiting = iter(cells)
        cell = next(waiting, None)
        try:
            for result in self.calls.stream(self.study.measure, self.grid, cells):
                assert cell is not None
                self.results[cell] = result
                if self.store is not None:
                    self.store.add(cell, result, self._maker(cell))
                advance(f"{self.study.name} d={cell.dim}")
                cell = next(waiting, None)
        except (StepError, MachineError) as error:
            assert cell is not None
            self.failed[cell] = failure = sized(error, self.grid, cell)
            if self.store is not None:
                self.store.mark(cell, str(failure), self._maker(cell))
            advance(f"{self.study.name} d={cell.dim}")
        return cell

    def _maker(self, cell: C) -> Environment:
        return self.makers[cell.optimizer]


def unfinished(study: str, failures: Sequence[Failure]) -> str:
    """That cells have no result because the machine failed: the first of them, and what to do."""
    cells = sum(failure.cells for failure in failures)
    first = failures[0]
    return (
        f"{study} has no result in {cells} cells, because the machine failed: {first.optimizer} at "
        f"alpha = {first.alpha:g}, d = {first.dim}: {first.reason}; all other results are kept in "
        "--out, and --resume measures these"
    )
