"""Measures each cell of a study once, reuses stored results, and records failures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Generic, TypeVar

from memsolve.engine.execution.memory_errors import with_cell_size
from memsolve.engine.execution.runner import Runner, call
from memsolve.engine.prepare import with_optimizers
from memsolve.engine.progress import Advance, Progress
from memsolve.engine.results.summary import Failure, Fit, P
from memsolve.engine.storage.store import Store
from memsolve.engine.study import C, G, Study
from memsolve.environment import Environment
from memsolve.faults import MachineError, OutOfMemoryError, StepError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@dataclass
class Measurement(Generic[G, C, R, P]):
    """The measurement of a study.

    Attributes:
        study: to be measured.
        grid: what it varies.
        provenance: versions, hardware and optimizer that produce results, by optimizer's label.
        store: keeps results on disk; None keeps none.
        runner: runs the optimizers.
        here: runs the fits, on this machine.
        progress: shows how many cells are done.
        results: of the cells that were measured, in their order.
        errors: of the cells that failed.
    """

    study: Study[G, C, R, P]
    grid: G
    provenance: Mapping[str, Environment]
    store: Store[C, R] | None
    runner: Runner
    here: Runner
    progress: Progress
    results: dict[C, R] = field(default_factory=dict)
    errors: dict[C, StepError | MachineError] = field(default_factory=dict)

    def run(self, cells: list[C]) -> None:
        """Measure cells, and the further ones that follow from their results.

        An optimizer with a failed cell at an alpha gets no further cells there, since these may
        depend on the missing result; its other cells are still measured.
        """
        every_cell: list[C] = []
        while cells:
            self._measure(cells)
            every_cell += cells
            failed = {(cell.optimizer, cell.alpha) for cell in every_cell if cell in self.errors}
            complete = {
                cell: self.results[cell]
                for cell in every_cell
                if (cell.optimizer, cell.alpha) not in failed
            }
            cells = self.study.next_cells(self.grid, complete)
        # in one order, whichever was there first
        self.results = {cell: self.results[cell] for cell in every_cell if cell in self.results}
        self.errors = {cell: self.errors[cell] for cell in every_cell if cell in self.errors}

    def fits(self) -> list[Fit[P]]:
        """The fits of all optimizers and alphas without a failed cell.

        Raises:
            StepError: every optimizer failed.
            MachineError: no fit is left because the machine failed.
        """
        if not self.errors:
            return self._fits(self.grid)
        fits: list[Fit[P]] = []
        for alpha in self.grid.alphas:
            failed = {cell.optimizer for cell in self.errors if cell.alpha == alpha}
            complete = [label for label in self.grid.labels if label not in failed]
            if complete:
                fits += self._fits(replace(with_optimizers(self.grid, complete), alphas=[alpha]))
        if not fits:
            failures = self.failures()
            if of_machine := [failure for failure in failures if failure.machine]:
                raise MachineError(format_unfinished(self.study.name, of_machine))
            raise StepError(f"every optimizer failed: {'; '.join(map(str, failures))}")
        return fits

    def failures(self) -> list[Failure]:
        """Failed cells, and runs that ended in a failure, grouped by optimizer, alpha and `d`."""
        ended = {
            cell: StepError(reason)
            for cell, result in self.results.items()
            if (reason := str(getattr(result, "failed", "")))
        }
        reasons: dict[tuple[str, float, int, bool], list[str]] = {}
        for cell, error in (self.errors | ended).items():
            key = cell.optimizer, cell.alpha, cell.dim, isinstance(error, MachineError)
            reasons.setdefault(key, []).append(str(error))
        return [
            Failure(optimizer, alpha, dim, len(group), group[0], machine)
            for (optimizer, alpha, dim, machine), group in reasons.items()
        ]

    def _fits(self, grid: G) -> list[Fit[P]]:
        try:
            return call(self.here, partial(self.study.fits, grid, self.results), math.inf)
        except OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{error} for the fits of {self.study.name}; all results are kept in --out, and "
                "--resume goes on from them"
            ) from error

    def _measure(self, cells: Sequence[C]) -> None:
        """Take kept results from the store, and measure the other cells."""
        missing = self._missing(cells)
        with self.progress(self.study.name, len(cells), len(cells) - len(missing)) as advance:
            for _, same_memory in groupby(missing, lambda cell: cell.memory):
                group = list(same_memory)
                while group:
                    done = self._measure_until_failure(group, advance)
                    group = group[done:]

    def _missing(self, cells: Sequence[C]) -> list[C]:
        """The cells without a result, once those of the store are taken."""
        for cell in cells:
            if self.store and (result := self.store.find(cell, self._producer(cell))) is not None:
                self.results[cell] = result
        return [cell for cell in cells if cell not in self.results and cell not in self.errors]

    def _measure_until_failure(self, cells: Sequence[C], advance: Advance) -> int:
        """Measure cells of one memory up to the first that fails; return how many are done."""
        done = 0
        try:
            results = self.runner.stream(self.study.measure, self.grid, cells)
            for cell, result in zip(cells, results, strict=True):
                self._add_result(cell, result)
                advance(self._description(cell))
                done += 1
        except (StepError, MachineError) as error:
            self._add_error(cells[done], error)
            advance(self._description(cells[done]))
            done += 1
        return done

    def _add_result(self, cell: C, result: R) -> None:
        self.results[cell] = result
        if self.store is not None:
            self.store.add(cell, result, self._producer(cell))

    def _add_error(self, cell: C, error: StepError | MachineError) -> None:
        self.errors[cell] = failure = with_cell_size(error, self.grid, cell)
        if self.store is not None:
            self.store.mark_failed(cell, str(failure), self._producer(cell))

    def _description(self, cell: C) -> str:
        return f"{self.study.name} d={cell.dim}"

    def _producer(self, cell: C) -> Environment:
        return self.provenance[cell.optimizer]


def format_unfinished(study: str, failures: Sequence[Failure]) -> str:
    """Say that cells have no result because the machine failed: the first, and what to do."""
    cells = sum(failure.cells for failure in failures)
    first = failures[0]
    plural = "s" if cells > 1 else ""
    return (
        f"{study} has no result in {cells} cell{plural}, because the machine failed: "
        f"{first.optimizer} at alpha = {first.alpha:g}, d = {first.dim}: {first.reason}; all other "
        "results are kept in --out, and --resume measures these"
    )
