"""What a study is: one question to optimizers, declared in one place."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from matplotlib.figure import Figure
from memsolve_kernels.errors import InputError, RangeError

from memsolve.engine import tidy
from memsolve.engine.calls import Calls, call, calls_for
from memsolve.engine.cell import Cell
from memsolve.engine.claim import check
from memsolve.engine.folder import alone
from memsolve.engine.grid import Grid
from memsolve.engine.prepare import Prepared, RefusedError, only, prepare, refusal
from memsolve.engine.progress import Progress, bar
from memsolve.engine.run import Run
from memsolve.engine.store import Store
from memsolve.engine.summary import Fit, Point, Summary, read
from memsolve.engine.tidy import Measured
from memsolve.environment import environment
from memsolve.faults import EndedError, KilledError, MachineError, StepError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound="DataclassInstance")
P = TypeVar("P", bound=Point)


class GridError(InputError):
    """A grid of another kind than a study takes."""


class Study(ABC, Generic[C, R, P]):
    """A question to optimizers: its cells, how they are measured, what they come to, how it looks.

    An instance holds no state. Calling it runs the whole study; the command line offers it under
    its name once it is an object of a module in `memsolve.study`, or by its path from anywhere.

    Attributes:
        name: of the command, as "capacity".
        question: what it answers, in a line, for the command's help.
        quantity: what a point measures, in a few words, for axes and titles.
        definition: what that means, in a paragraph.
        legend: what signs in the terminal's table mean; empty where there are none.
        record: the folder of one that was measured before, to show others with; None without one.
        grid: the grid by default; its class decides the command's options.
        cell, result, point: classes of what is measured, what comes out, and what is shown; the
            first and last derive from `Cell` and `Point`, and all are frozen dataclasses of JSON
            values.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    quantity: ClassVar[str]
    definition: ClassVar[str]
    legend: ClassVar[str] = ""
    record: ClassVar[Path | None] = None
    grid: Grid = Grid()
    cell: type[C]
    result: type[R]
    point: type[P]

    @abstractmethod
    def measure(self, grid: Grid, cells: Sequence[C]) -> Iterator[R]:
        """The results of cells of one memory, in their order, each as soon as it is there.

        A pure function of its arguments: any process that has the package can compute it.
        """

    @abstractmethod
    def fits(self, grid: Grid, results: Mapping[C, R]) -> list[Fit[P]]:
        """What the results come to, for every optimizer and alpha."""

    @abstractmethod
    def value(self, point: P) -> str:
        """A point as text, in a word."""

    @abstractmethod
    def figures(self, summary: Summary[P]) -> dict[str, Figure]:
        """Figures by file name (without ending), from the summary alone."""

    def complete(self, grid: Grid) -> Grid:
        """The grid with what the study cannot do without."""
        return grid

    def cells(self, grid: Grid) -> list[C]:
        """Every cell, those of one memory next to each other."""
        return [
            self.cell(optimizer, alpha, dim, grid.items_of(dim), batch_size, seed)
            for alpha, dim, seed in product(grid.alphas, grid.dims, range(grid.seeds))
            for batch_size in self.batch_sizes(grid, alpha, dim)
            for optimizer in grid.labels
        ]

    def more(self, grid: Grid, results: Mapping[C, R]) -> list[C]:
        """Cells that the results call for: measured next, until there are none."""
        return []

    def batch_sizes(self, grid: Grid, alpha: float, dim: int) -> list[int | None]:
        """Batch sizes of a memory, None for the population, which is all by default.

        Raises:
            RangeError: the grid has batch sizes, and the study takes none.
        """
        if grid.batch_sizes is not None:
            raise RangeError(
                f"batch_sizes is {list(grid.batch_sizes)}, but this study takes the population "
                "gradient; leave it out, or run a study of batches, as saturation"
            )
        return [None]

    def tidy(self, result: R) -> Iterable[Measured]:
        """The numbers of a result, for `points.csv`."""
        return tidy.measured(vars(result).items(), step=1)

    def rows(self, fits: Sequence[Fit[P]]) -> list[dict[str, str]]:
        """Every fit as text, by column title."""
        return [self.columns(fit) for fit in fits]

    def columns(self, fit: Fit[P]) -> dict[str, str]:
        """A fit as text, by column title."""
        return {"exponent in d [95%]": fit.estimate.told, "theory": str(fit.law or "-")}

    def ranked(self, fits: Sequence[Fit[P]]) -> list[Fit[P]]:
        """Fits of merged studies by alpha, then by the score at the largest `d`, best first."""

        def key(fit: Fit[P]) -> tuple[float, float]:
            score = self.score(fit.points[-1])
            return fit.alpha, math.inf if score is None else -score

        return sorted(fits, key=key)

    def score(self, point: P) -> float | None:
        """What merged studies are ranked by, the largest first; None where there is nothing."""
        return None

    def detail(self, point: P) -> str:
        """A point as text, with all that a reader of the report asks for."""
        return self.value(point)

    def __call__(
        self,
        grid: Grid | None = None,
        out: Path | str | None = None,
        *,
        resume: bool = False,
        skip_failing: bool = False,
        time_limit: float | None = None,
        progress: Progress = bar,
    ) -> Summary[P]:
        """Run it.

        Args:
            grid: what to vary (default: the study's own).
            out: folder for cells, `summary.json` and `points.csv`; None writes nothing.
            resume: continue what a run left in `out`, finished or not: what it has measured with
                the same optimizers is not measured again, whatever else the grid holds.
            skip_failing: leave out the optimizers that cannot be used.
            time_limit: seconds that a cell may take; one that takes longer has failed. Given one,
                optimizers run in a process of their own, which imports them anew.
            progress: shows how far it is.

        Raises:
            InputError: a grid, device, optimizer or folder that cannot serve.
            MachineError: the machine failed, and left nothing to show.
        """
        if grid is not None and not isinstance(grid, type(self.grid)):
            raise GridError(
                f"grid is a {type(grid).__name__}; {self.name} takes a {type(self.grid).__name__}"
            )
        grid = self.complete(self.grid if grid is None else grid)
        with calls_for(self, grid, time_limit) as calls:
            prepared, cells = self._ready(grid, calls)
            if prepared.refused and not skip_failing:
                raise RefusedError(prepared.refused)
            how: dict[str, Any] = {"calls": calls, "resume": resume, "progress": progress}
            if out is None:
                return self._run(prepared, cells, None, **how)[0]
            folder = Path(out)
            check(folder, self._settings(prepared.grid))  # before anything is made in it
            with alone(folder):
                summary, results = self._run(prepared, cells, folder, **how)
                summary.write(folder)
                numbers = ((cell, found) for cell in results for found in self.tidy(results[cell]))
                tidy.write(folder / "points.csv", numbers)
        return summary

    def _ready(self, grid: Grid, calls: Calls) -> tuple[Prepared[Grid], list[C]]:
        """What of a grid can be measured, and its cells."""
        prepared = prepare(grid, calls)
        try:
            return prepared, self._cells(prepared.grid, calls)
        except RefusedError as error:
            refused = error.refused
        except (EndedError, KilledError):
            refused = self._that_end(prepared.grid, calls)
        prepared = prepared.without(refused)
        return prepared, self._cells(prepared.grid, calls)

    def _cells(self, grid: Grid, calls: Calls) -> list[C]:
        """The cells, where optimizers may have to take steps for them."""
        steps = len(grid.labels) * len(grid.alphas) * len(grid.dims)
        return call(calls, partial(self.cells, grid), worth=steps)

    def _that_end(self, grid: Grid, calls: Calls) -> dict[str, str]:
        """The optimizers that end the process where first step sizes are guessed, and how."""
        found: dict[str, str] = {}
        for label in grid.labels:
            try:
                self._cells(only(grid, [label]), calls)
            except RefusedError as error:
                found |= error.refused
            except (StepError, MachineError) as error:
                found[label] = refusal(label, error)
        return found

    def _run(
        self,
        prepared: Prepared[Grid],
        cells: list[C],
        folder: Path | None,
        *,
        calls: Calls,
        resume: bool,
        progress: Progress,
    ) -> tuple[Summary[P], Mapping[C, R]]:
        """Measure; the summary, and the results that it stands on."""
        grid, known = prepared.grid, prepared.known
        here = environment(grid.device)
        store = None
        if folder is not None:
            store = Store(folder, self._settings(grid), self.cell, self.result, resume=resume)
            store.expect(here)
        makers = {label: here | found.identity.content for label, found in known.items()}
        run = Run(self, grid, makers, store, calls, progress)
        with closing(store) if store else nullcontext():
            run.measure(cells)
        for found in known.values():
            here |= found.identity.packages
        remarks = {label: found.remark for label, found in known.items() if found.remark}
        summary = Summary(
            self.name,
            grid.command(self.name),
            here,
            run.fits(),
            remarks,
            prepared.refused,
            run.failures(),
            unidentified={
                label: found.identity.unknown
                for label, found in known.items()
                if found.identity.unknown
            },
        )
        return summary, run.results

    def _settings(self, grid: Grid) -> dict[str, Any]:
        """What all cells of a grid have in common, as JSON values."""
        settings: dict[str, Any] = json.loads(json.dumps({"study": self.name, **grid.common()}))
        return settings

    def load(self, folder: Path) -> Summary[P]:
        """The summary of a finished study of this kind.

        Raises:
            InputError: the folder holds none.
        """
        found = read(folder)
        if found["study"] != self.name:
            raise InputError(f"{folder} holds a {found['study']} study; expected {self.name}")
        try:
            return Summary.from_json(found, self.point)
        except InputError as error:
            raise InputError(f"{folder / 'summary.json'}: {error}") from error
