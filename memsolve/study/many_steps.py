"""What the studies of training share: their trials, tuned alike for every optimizer."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from memsolve.engine import Grid, Point, Study
from memsolve.engine.optimizers import resolve
from memsolve.engine.prepare import RefusedError
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded
from memsolve.stepper import Build, StepError
from memsolve.study.one_step import memory_of
from memsolve.study.trials import Place, T, Trials, by_place
from memsolve.study.tuning import (
    BUDGET,
    WIDENINGS,
    Chosen,
    Tried,
    first_sizes,
    next_size,
    unit_step,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
P = TypeVar("P", bound=Point)

Unit = Callable[[Trials, str, float, int], float]
"""`Tuned.unit` of a study."""


class Tuned(Study[T, R, P]):
    """A study whose step sizes are tuned.

    Step sizes are tuned at each `Place`, for each schedule alike: three are tried first
    (`first_sizes`), then one at a time until there are `BUDGET` (`next_size`). The schedule that is
    best by then gets up to `WIDENINGS` more while its best step size is at an end. Step sizes that
    a user has set are all tried, and only widened; a single one is kept.
    """

    @abstractmethod
    def choose(self, runs: Mapping[T, R]) -> Chosen:
        """The best schedule and step size of the trials of one place."""

    def unit(self, grid: Trials, optimizer: str, alpha: float, dim: int) -> float:
        """The step size around which those to begin with are, were it the same at every step.

        Raises:
            StepError: none can be guessed.
        """
        return unit_step(grid, optimizer, alpha, dim)

    def trial(self, grid: Trials, place: Place, seed: int, tried: Tried) -> T:
        """A trial at a place of the grid."""
        name, alpha, dim, batch_size = place
        return self.cell(name, alpha, dim, grid.items_of(dim), batch_size, seed, *tried)

    def tuned_on(self, grid: Trials) -> range:
        """Seeds of the trials that decide on step sizes: all."""
        return range(grid.seeds)

    def batch_sizes(self, grid: Grid, alpha: float, dim: int) -> list[int | None]:
        """Those of the grid; the population without any."""
        return [None] if grid.batch_sizes is None else [*grid.batch_sizes]

    def cells(self, grid: Grid) -> list[T]:
        """Each schedule with the step sizes to begin with, at every place, for every seed.

        Raises:
            RefusedError: optimizers whose step sizes cannot be guessed, and why.
        """
        assert isinstance(grid, Trials)
        begun = all_first_trials(grid, self.unit)
        return [
            self.trial(grid, Place(name, alpha, dim, batch_size), seed, tried)
            for alpha, dim, seed in product(grid.alphas, grid.dims, self.tuned_on(grid))
            for batch_size, name in product(self.batch_sizes(grid, alpha, dim), grid.labels)
            for tried in begun[name, alpha, dim]
        ]

    def more(self, grid: Grid, results: Mapping[T, R]) -> list[T]:
        """The next step size of every schedule at every place, until tuning ends."""
        assert isinstance(grid, Trials)
        found = []
        for place, runs in by_place(results).items():
            chosen = self.choose(runs)
            for schedule in grid.schedules:
                of = {run: result for run, result in runs.items() if run.schedule == schedule}
                size = self._next_size(grid, of, chosen)
                if size is not None:
                    seeds = self.tuned_on(grid)
                    found += [self.trial(grid, place, seed, (schedule, size)) for seed in seeds]
        return found

    def _next_size(self, grid: Trials, runs: Mapping[T, R], chosen: Chosen) -> float | None:
        """The step size that a schedule is tried with next, given its trials at a place."""
        optimizer, schedule = next((run.optimizer, run.schedule) for run in runs)
        given = grid.sizes_of(optimizer)
        tried = sorted({run.step_size for run in runs})
        beyond = len(tried) - (BUDGET if given is None else len(given))
        at_end = chosen.edge and chosen.schedule == schedule
        if beyond >= (WIDENINGS if at_end else 0):
            return None

        def best(sizes: Sequence[float]) -> float:
            return self.choose({run: runs[run] for run in runs if run.step_size in sizes}).step_size

        return next_size(tried, best)


class ManySteps(Tuned[T, R, P]):
    """A study of whole training runs of a memory."""

    @abstractmethod
    def run(self, grid: Trials, memory: AssociativeMemory, build: Build, cell: T) -> R:
        """One trial's run."""

    def measure(self, grid: Grid, cells: Sequence[T]) -> Iterator[R]:
        """Each trial's run."""
        assert isinstance(grid, Trials)
        memory = memory_of(grid, cells[0])
        builders = resolve(grid.choices)
        for cell in cells:
            with seeded(grid.device, cell.seed, cell.dim):
                result = self.run(grid, memory, builders[cell.optimizer], cell)
            yield result


def all_first_trials(grid: Trials, unit: Unit) -> dict[tuple[str, float, int], list[Tried]]:
    """`first_trials` of every optimizer and memory.

    Raises:
        RefusedError: optimizers whose step sizes cannot be guessed, all of them, and why.
    """
    found: dict[tuple[str, float, int], list[Tried]] = {}
    refused: dict[str, str] = {}
    for name, alpha, dim in product(grid.labels, grid.alphas, grid.dims):
        try:
            found[name, alpha, dim] = first_trials(grid, name, alpha, dim, unit)
        except StepError as error:
            refused[name] = str(error)
    if refused:
        raise RefusedError(refused)
    return found


def first_trials(grid: Trials, optimizer: str, alpha: float, dim: int, unit: Unit) -> list[Tried]:
    """Each schedule with the step sizes that it is tried with first."""
    if (given := grid.sizes_of(optimizer)) is not None:
        return list(product(grid.schedules, given))
    middle = unit(grid, optimizer, alpha, dim)
    return [
        (schedule, size)
        for schedule in grid.schedules
        for size in first_sizes(middle, schedule, grid.steps)
    ]
