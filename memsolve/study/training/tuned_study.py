"""Studies whose learning rates are tuned, by the same rule for every optimizer."""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import torch

from memsolve.engine import Point, Study
from memsolve.engine.peak import Peak
from memsolve.engine.prepare import RefusedError
from memsolve.faults import StepError
from memsolve.optimizers.lr_behavior import builder_of_run, lr_behavior
from memsolve.optimizers.registry import builder, resolve
from memsolve.problem import AssociativeMemory
from memsolve.seeds import seeded
from memsolve.study import peak
from memsolve.study.memory import memory_of
from memsolve.study.training import search
from memsolve.study.training.grid import (
    Candidate,
    T,
    TrainingGrid,
    TuningKey,
    by_tuning_key,
    tuning_key,
)
from memsolve.study.training.selection import Selection
from memsolve.study.training.tuning import (
    BUDGET,
    WIDENINGS,
    first_lrs,
    next_lr,
    unit_lr,
)
from memsolve.training import Builder, Schedule

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TG = TypeVar("TG", bound=TrainingGrid)
R = TypeVar("R", bound="DataclassInstance")
P = TypeVar("P", bound=Point)

UnitLr = Callable[[TG, str, float, int], float]
"""`TunedStudy.unit_lr` of a study."""

OwnSchedule = Callable[[TG, str], Schedule | None]
"""`TunedStudy.own_schedule` of a study."""


class TunedStudy(Study[TG, T, R, P]):
    """A study whose schedules and learning rates are tuned, separately at each `TuningKey`.

    The learning rate and the ratio of the geometric schedule are searched together, with a budget
    of `SEARCH_BUDGET` candidates. Every other schedule starts with three learning rates
    (`first_lrs`), and gets one more at a time until it has `BUDGET` (`next_lr`). The best of them
    then gets up to `WIDENINGS` more while its best learning rate is the smallest or the largest.
    Learning rates that the user sets are all tried instead, with several ratios of the geometric
    schedule; those of other schedules are only widened, a single one not even that.

    Of an optimizer that sets its learning rate itself, the initial one is tuned in the same way as
    that of another schedule; one that ignores learning rates gets a single trial (`own_schedule`).
    """

    @abstractmethod
    def select(self, grid: TG, runs: Mapping[T, R]) -> Selection:
        """The best candidate of the trials at one tuning key."""

    def unit_lr(self, grid: TG, optimizer: str, alpha: float, dim: int) -> float:
        """The middle of the first learning rates, for a constant schedule.

        Raises:
            StepError: no such learning rate can be inferred.
        """
        return unit_lr(grid, optimizer, alpha, dim)

    def own_schedule(self, grid: TG, optimizer: str) -> Schedule | None:
        """The schedule of an optimizer that sets its learning rate itself, see `OWN_SCHEDULES`.

        None where those of the grid apply: by default everywhere.
        """
        return None

    def trial(self, grid: TG, key: TuningKey, seed: int, candidate: Candidate) -> T:
        """The trial of a candidate at a tuning key, with one seed."""
        name, alpha, dim, batch_size = key
        return self.cell(name, alpha, dim, grid.items_of(dim), batch_size, seed, *candidate)

    def tuning_seeds(self, grid: TG) -> range:
        """The seeds whose trials decide on the learning rates: all by default."""
        return range(grid.seeds)

    def batch_sizes(self, grid: TG, alpha: float, dim: int) -> list[int | None]:
        """The batch sizes of the grid; the population if it has none."""
        return [None] if grid.batch_sizes is None else [*grid.batch_sizes]

    def cells(self, grid: TG) -> list[T]:
        """The first trials at every tuning key, for every tuning seed.

        Raises:
            RefusedError: optimizers whose first learning rates cannot be inferred, and why.
        """
        candidates = all_first_candidates(grid, self.unit_lr, self.own_schedule)
        return [
            self.trial(grid, TuningKey(name, alpha, dim, batch_size), seed, candidate)
            for alpha, dim, seed in product(grid.alphas, grid.dims, self.tuning_seeds(grid))
            for batch_size, name in product(self.batch_sizes(grid, alpha, dim), grid.labels)
            for candidate in candidates[name, alpha, dim]
        ]

    def next_cells(self, grid: TG, results: Mapping[T, R]) -> list[T]:
        """The next trials of every schedule at every tuning key; none once tuning has ended."""
        trials = []
        for key, runs in by_tuning_key(results).items():
            selection = self.select(grid, runs)
            for schedule in (*grid.schedules, "own"):
                of_schedule = {
                    trial: run for trial, run in runs.items() if trial.schedule == schedule
                }
                if not of_schedule:
                    continue
                following = self._search if schedule == "geometric" else self._next_lr
                trials += [
                    self.trial(grid, key, seed, candidate)
                    for candidate in following(grid, of_schedule, selection)
                    for seed in self.tuning_seeds(grid)
                ]
        return trials

    def group(self, cell: T) -> Hashable:
        """Every trial is measured by itself."""
        return cell

    def part(self, cell: T) -> Hashable:
        """Trials at one tuning key decide on its further trials."""
        return tuning_key(cell)

    def cost(self, grid: TG, cell: T) -> float:
        """That of the logits of all items, after each step."""
        return float(cell.num_items) ** 2 * cell.dim * grid.steps

    def _search(self, grid: TG, runs: Mapping[T, R], _: Selection) -> list[Candidate]:
        """The next candidates of the geometric schedule, from its trials at a tuning key."""
        if grid.lrs_of(next(iter(runs)).optimizer) is not None:
            return []
        tried = {trial.candidate for trial in runs}
        return search.next_candidates(self.select(grid, runs).candidate, tried, grid.steps)

    def _next_lr(self, grid: TG, runs: Mapping[T, R], selection: Selection) -> list[Candidate]:
        """The next candidate of another schedule, from its trials at a tuning key."""
        optimizer, schedule = next((trial.optimizer, trial.schedule) for trial in runs)
        user_lrs = grid.lrs_of(optimizer)
        lrs = sorted({trial.lr for trial in runs})
        widenings = len(lrs) - (BUDGET if user_lrs is None else len(user_lrs))
        may_widen = selection.at_edge and selection.schedule == schedule
        if widenings >= (WIDENINGS if may_widen else 0):
            return []

        def best(some: Sequence[float]) -> float:
            return self.select(grid, {trial: runs[trial] for trial in runs if trial.lr in some}).lr

        return [Candidate(schedule, next_lr(lrs, best))]


class TrainingStudy(TunedStudy[TG, T, R, P]):
    """A tuned study of training runs on a memory."""

    @abstractmethod
    def run(self, grid: TG, memory: AssociativeMemory, build: Builder, cell: T) -> R:
        """One trial's run."""

    def own_schedule(self, grid: TG, optimizer: str) -> Schedule | None:
        """As its first steps show."""
        build, dtype = builder(grid.choices[optimizer]), getattr(torch, grid.dtype)
        return lr_behavior(build, grid.device, dtype).schedule

    def peak(self, grid: TG) -> Peak | None:
        """The bytes of training."""
        return peak.largest_of_training(self, grid)

    def measure(self, grid: TG, cells: Sequence[T]) -> Iterator[R]:
        """The result of each trial."""
        memory = memory_of(grid, cells[0])
        builders = resolve(grid.choices)
        for cell in cells:
            with seeded(grid.device, cell.seed, cell.dim):
                build = builder_of_run(builders[cell.optimizer], cell.schedule, cell.lr)
                result = self.run(grid, memory, build, cell)
            yield result


def all_first_candidates(
    grid: TG, unit_lr: UnitLr[TG], own_schedule: OwnSchedule[TG]
) -> dict[tuple[str, float, int], list[Candidate]]:
    """`first_candidates` of every optimizer, alpha and `d`.

    Raises:
        RefusedError: all optimizers whose first learning rates cannot be inferred, and why.
    """
    candidates: dict[tuple[str, float, int], list[Candidate]] = {}
    refused: dict[str, str] = {}
    for name, alpha, dim in product(grid.labels, grid.alphas, grid.dims):
        try:
            own = own_schedule(grid, name)
            candidates[name, alpha, dim] = (
                first_candidates(grid, name, alpha, dim, unit_lr)
                if own is None
                else own_candidates(grid, name, alpha, dim, unit_lr, own)
            )
        except StepError as error:
            refused[name] = str(error)
    if refused:
        raise RefusedError(refused)
    return candidates


def first_candidates(
    grid: TG, optimizer: str, alpha: float, dim: int, unit_lr: UnitLr[TG]
) -> list[Candidate]:
    """The first candidates of every schedule."""
    user_lrs = grid.lrs_of(optimizer)
    if user_lrs is not None:
        lrs = dict.fromkeys(grid.schedules, user_lrs)
        geometric = search.candidates_of(user_lrs, grid.steps)
    else:
        unit = unit_lr(grid, optimizer, alpha, dim)
        lrs = {schedule: first_lrs(unit, schedule, grid.steps) for schedule in grid.schedules}
        geometric = search.first_candidates(unit, grid.steps)
    candidates = {name: [Candidate(name, lr) for lr in lrs[name]] for name in grid.schedules}
    candidates["geometric"] = geometric
    return [candidate for schedule in grid.schedules for candidate in candidates[schedule]]


def own_candidates(
    grid: TG, optimizer: str, alpha: float, dim: int, unit_lr: UnitLr[TG], schedule: Schedule
) -> list[Candidate]:
    """The first candidates of an optimizer that sets its learning rate itself."""
    if schedule == "fixed":
        return [Candidate(schedule, 1.0)]
    user_lrs = grid.lrs_of(optimizer)
    if user_lrs is None:
        unit = unit_lr(grid, optimizer, alpha, dim)
        user_lrs = first_lrs(unit, schedule, grid.steps)
    return [Candidate(schedule, lr) for lr in user_lrs]
