"""What the studies of training share: their trials, tuned alike for every optimizer."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from memsolve.engine import Point, Study
from memsolve.engine.prepare import RefusedError
from memsolve.faults import StepError
from memsolve.optimizers.registry import resolve
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded
from memsolve.study.memory import memory_of
from memsolve.study.training.grid import T, TrainingGrid, TuningKey, by_tuning_key
from memsolve.study.training.tuning import (
    BUDGET,
    WIDENINGS,
    Candidate,
    Selection,
    first_lrs,
    next_lr,
    unit_lr,
)
from memsolve.training import Builder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TG = TypeVar("TG", bound=TrainingGrid)
R = TypeVar("R", bound="DataclassInstance")
P = TypeVar("P", bound=Point)

Unit = Callable[[TG, str, float, int], float]
"""`TunedStudy.unit` of a study."""


class TunedStudy(Study[TG, T, R, P]):
    """A study whose step sizes are tuned.

    Step sizes are tuned at each `TuningKey`, for each schedule alike: three are tried first
    (`first_lrs`), then one at a time until there are `BUDGET` (`next_lr`). The schedule that is
    best by then gets up to `WIDENINGS` more while its best step size is at an end. Step sizes that
    a user has set are all tried, and only widened; a single one is kept.
    """

    @abstractmethod
    def select(self, runs: Mapping[T, R]) -> Selection:
        """The best schedule and step size of the trials of one place."""

    def unit(self, grid: TG, optimizer: str, alpha: float, dim: int) -> float:
        """The step size around which those to begin with are, were it the same at every step.

        Raises:
            StepError: none can be guessed.
        """
        return unit_lr(grid, optimizer, alpha, dim)

    def trial(self, grid: TG, place: TuningKey, seed: int, tried: Candidate) -> T:
        """A trial at a place of the grid."""
        name, alpha, dim, batch_size = place
        return self.cell(name, alpha, dim, grid.items_of(dim), batch_size, seed, *tried)

    def tuned_on(self, grid: TG) -> range:
        """Seeds of the trials that decide on step sizes: all."""
        return range(grid.seeds)

    def batch_sizes(self, grid: TG, alpha: float, dim: int) -> list[int | None]:
        """Those of the grid; the population without any."""
        return [None] if grid.batch_sizes is None else [*grid.batch_sizes]

    def cells(self, grid: TG) -> list[T]:
        """Each schedule with the step sizes to begin with, at every place, for every seed.

        Raises:
            RefusedError: optimizers whose step sizes cannot be guessed, and why.
        """
        begun = all_first_trials(grid, self.unit)
        return [
            self.trial(grid, TuningKey(name, alpha, dim, batch_size), seed, tried)
            for alpha, dim, seed in product(grid.alphas, grid.dims, self.tuned_on(grid))
            for batch_size, name in product(self.batch_sizes(grid, alpha, dim), grid.labels)
            for tried in begun[name, alpha, dim]
        ]

    def next_cells(self, grid: TG, results: Mapping[T, R]) -> list[T]:
        """The next step size of every schedule at every place, until tuning ends."""
        found = []
        for place, runs in by_tuning_key(results).items():
            chosen = self.select(runs)
            for schedule in grid.schedules:
                of = {run: result for run, result in runs.items() if run.schedule == schedule}
                size = self._next_lr(grid, of, chosen)
                if size is not None:
                    seeds = self.tuned_on(grid)
                    found += [self.trial(grid, place, seed, (schedule, size)) for seed in seeds]
        return found

    def _next_lr(self, grid: TG, runs: Mapping[T, R], chosen: Selection) -> float | None:
        """The step size that a schedule is tried with next, given its trials at a place."""
        optimizer, schedule = next((run.optimizer, run.schedule) for run in runs)
        given = grid.lrs_of(optimizer)
        tried = sorted({run.lr for run in runs})
        beyond = len(tried) - (BUDGET if given is None else len(given))
        at_end = chosen.edge and chosen.schedule == schedule
        if beyond >= (WIDENINGS if at_end else 0):
            return None

        def best(sizes: Sequence[float]) -> float:
            return self.select({run: runs[run] for run in runs if run.lr in sizes}).lr

        return next_lr(tried, best)


class TrainingStudy(TunedStudy[TG, T, R, P]):
    """A study of whole training runs of a memory."""

    @abstractmethod
    def run(self, grid: TG, memory: AssociativeMemory, build: Builder, cell: T) -> R:
        """One trial's run."""

    def measure(self, grid: TG, cells: Sequence[T]) -> Iterator[R]:
        """The result of each trial."""
        memory = memory_of(grid, cells[0])
        builders = resolve(grid.choices)
        for cell in cells:
            with seeded(grid.device, cell.seed, cell.dim):
                result = self.run(grid, memory, builders[cell.optimizer], cell)
            yield result


def all_first_trials(grid: TG, unit: Unit[TG]) -> dict[tuple[str, float, int], list[Candidate]]:
    """`first_trials` of every optimizer and memory.

    Raises:
        RefusedError: optimizers whose step sizes cannot be guessed, all of them, and why.
    """
    found: dict[tuple[str, float, int], list[Candidate]] = {}
    refused: dict[str, str] = {}
    for name, alpha, dim in product(grid.labels, grid.alphas, grid.dims):
        try:
            found[name, alpha, dim] = first_trials(grid, name, alpha, dim, unit)
        except StepError as error:
            refused[name] = str(error)
    if refused:
        raise RefusedError(refused)
    return found


def first_trials(
    grid: TG, optimizer: str, alpha: float, dim: int, unit: Unit[TG]
) -> list[Candidate]:
    """Each schedule with the step sizes that it is tried with first."""
    if (given := grid.lrs_of(optimizer)) is not None:
        return list(product(grid.schedules, given))
    middle = unit(grid, optimizer, alpha, dim)
    return [
        (schedule, size)
        for schedule in grid.schedules
        for size in first_lrs(middle, schedule, grid.steps)
    ]
