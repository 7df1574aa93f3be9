"""Measuring the cells of a study: each once, what is on disk not again, what fails marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memsolve.engine.cell import Cell
from memsolve.engine.grid import Grid
from memsolve.engine.prepare import only
from memsolve.engine.progress import Advance, Progress
from memsolve.engine.store import Store
from memsolve.engine.summary import Failure, Fit
from memsolve.environment import Environment
from memsolve.stepper import StepError

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
        progress: shows how far it is.
        results: of the cells that were measured, in their order.
        failed: why the others could not be, in the optimizer's words.
    """

    study: "Study[C, R, Any]"
    grid: Grid
    makers: Mapping[str, Environment]
    store: Store[C, R] | None
    progress: Progress
    results: dict[C, R] = field(default_factory=dict)
    failed: dict[C, str] = field(default_factory=dict)

    def measure(self, cells: list[C]) -> None:
        """Measure cells, and the further ones that their results call for."""
        done: list[C] = []
        while cells:
            self._take(cells)
            done += cells
            cells = self.study.more(self.grid, self.results)
        # in one order, whatever was kept
        self.results = {cell: self.results[cell] for cell in done if cell in self.results}

    def fits(self) -> list[Fit[Any]]:
        """What the results come to, where no cell has failed.

        Raises:
            StepError: there is no such optimizer.
        """
        if not self.failed:
            return self.study.fits(self.grid, self.results)
        fits: list[Fit[Any]] = []
        for alpha in self.grid.alphas:
            bad = {cell.optimizer for cell in self.failed if cell.alpha == alpha}
            whole = [label for label in self.grid.labels if label not in bad]
            if whole:
                part = replace(only(self.grid, whole), alphas=[alpha])
                fits += self.study.fits(part, self.results)
        if not fits:
            reasons = "; ".join(dict.fromkeys(map(str, self.failures())))
            raise StepError(f"every optimizer failed: {reasons}")
        return fits

    def failures(self) -> list[Failure]:
        """Cells that failed, and runs that ended in a failure, together where they are alike."""
        ended = {cell: str(getattr(result, "failed", "")) for cell, result in self.results.items()}
        reasons: dict[tuple[str, float, int], list[str]] = {}
        for cell, reason in (self.failed | ended).items():
            if reason:
                place = cell.optimizer, cell.alpha, cell.dim
                reasons.setdefault(place, []).append(reason)
        return [Failure(*place, len(found), found[0]) for place, found in reasons.items()]

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
            for result in self.study.measure(self.grid, cells):
                assert cell is not None
                self.results[cell] = result
                if self.store is not None:
                    self.store.add(cell, result, self._maker(cell))
                advance(f"{self.study.name} d={cell.dim}")
                cell = next(waiting, None)
        except StepError as error:
            assert cell is not None
            self.failed[cell] = str(error)
            if self.store is not None:
                self.store.mark(cell, str(error), self._maker(cell))
            advance(f"{self.study.name} d={cell.dim}")
        return cell

    def _maker(self, cell: C) -> Environment:
        return self.makers[cell.optimizer]
