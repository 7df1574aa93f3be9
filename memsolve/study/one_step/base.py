"""The base of the one-step studies: measure one step from `W = 0`, and look up its law."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from torch.optim import Optimizer

from memsolve import theory
from memsolve.engine import Cell, Grid, Point, Study
from memsolve.engine.peak import Peak
from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.frequencies import Batch
from memsolve.objective import Objective
from memsolve.optimizers.registry import resolve
from memsolve.problem import AssociativeMemory
from memsolve.recall import Recall
from memsolve.seeds import seeded
from memsolve.study import peak
from memsolve.study.memory import memory_of
from memsolve.study.one_step.points import CapacityPoint
from memsolve.training import step_from_zero


@dataclass(frozen=True)
class StepResult:
    """Outcome of one step, over the items of its batch.

    Attributes:
        recovered: number of items whose own logit is the largest.
        top_rank: highest rank such that 99% of the items up to it are recovered.
    """

    recovered: int
    top_rank: int


P = TypeVar("P", bound=Point)
R = TypeVar("R", bound=StepResult)
Results = Mapping[Cell, StepResult]


class OneStepStudy(Study[Grid, Cell, StepResult, P]):
    """A study of the items that one step from `W = 0` recovers."""

    grid = Grid()
    cell = Cell
    result = StepResult

    def peak(self, grid: Grid) -> Peak | None:
        """The bytes of one step."""
        return peak.largest(self, grid, peak.one_step)

    def measure(self, grid: Grid, cells: Sequence[Cell]) -> Iterator[StepResult]:
        """One step of each cell's optimizer; cells of one batch share its gradient."""
        return measure_steps(grid, memory_of(grid, cells[0]), cells)


def measure_steps(
    grid: Grid, memory: AssociativeMemory, cells: Sequence[Cell]
) -> Iterator[StepResult]:
    """The result of one step of each cell's optimizer on a memory, in order."""
    for recall in step_recalls(grid, memory, cells):
        yield StepResult(recall.count, recall.top_rank())


def step_recalls(grid: Grid, memory: AssociativeMemory, cells: Sequence[Cell]) -> Iterator[Recall]:
    """The items of its batch that one step of each cell's optimizer recovers, in order.

    Cells of one batch share its gradient.
    """
    builders = resolve(grid.choices)
    for batch_size, same_batch in groupby(cells, lambda cell: cell.batch_size):
        batch = draw_batch(memory, batch_size, cells[0].seed)
        objective = Objective(memory, batch)
        for cell in same_batch:
            with seeded(grid.device, cell.seed, cell.dim):
                weight = step_from_zero(objective, builders[cell.optimizer])
            yield memory.recall(weight, batch.items)


def draw_batch(memory: AssociativeMemory, batch_size: int | None, seed: int) -> Batch:
    """A batch that is the same for every optimizer; the population if the size is None."""
    if batch_size is None:
        return memory.population()
    (state,) = np.random.SeedSequence([seed, memory.dim, batch_size]).generate_state(1, np.uint64)
    return memory.sample(batch_size, torch.Generator().manual_seed(int(state)))


def step_results(
    grid: Grid,
    results: Mapping[Cell, R],
    optimizer: str,
    alpha: float,
    dim: int,
    batch_size: int | None = None,
) -> list[R]:
    """The results of every seed."""
    num_items = grid.items_of(dim)
    return [
        results[Cell(optimizer, alpha, dim, num_items, batch_size, seed)]
        for seed in range(grid.seeds)
    ]


def capacity_points(
    grid: Grid, results: Results, optimizer: str, alpha: float
) -> list[CapacityPoint]:
    """Items that one step on the population gradient recovers, at each `d`."""

    def capacity_point(dim: int) -> CapacityPoint:
        by_seed = step_results(grid, results, optimizer, alpha, dim)
        return CapacityPoint(
            dim,
            grid.items_of(dim),
            [result.recovered for result in by_seed],
            [result.top_rank for result in by_seed],
        )

    return [capacity_point(dim) for dim in grid.dims]


def capacity_exponent(grid: Grid, points: Sequence[CapacityPoint]) -> Estimate:
    """Exponent in `d` of the number of items recovered, mean over seeds."""
    return power_law_exponent(
        grid.dims,
        [np.array(point.recovered, dtype=float) for point in points],
        [lambda counts: counts.mean(1)] * len(grid.dims),
    )


def optimizers(grid: Grid) -> dict[str, Optimizer]:
    """An optimizer of each choice of a grid, for a weight (2, 2), by label."""
    memory = AssociativeMemory(2, 2, 2.0, seed=0)
    objective = Objective(memory, memory.population())
    weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    return {label: build([weight], objective) for label, build in resolve(grid.choices).items()}


def methods(grid: Grid, alpha: float, steps: int = 1) -> dict[str, theory.Method | None]:
    """The theory's method of each optimizer of a grid at an alpha, at all of its `d`, by label.

    None where no law covers it; the laws cover isotropic embeddings only, and a damping that is
    within the law's on the population, which is the strictest.

    Args:
        grid: of the study.
        alpha: exponent of the frequencies.
        steps: number of steps from zero.
    """
    if not grid.is_isotropic:
        return dict.fromkeys(grid.labels)
    memories = [(dim, grid.items_of(dim)) for dim in grid.dims]
    bound = theory.damping_bound(alpha, memories)
    return {
        label: theory.method_of(optimizer, steps, bound)
        for label, optimizer in optimizers(grid).items()
    }


def laws(grid: Grid, quantity: theory.Quantity) -> dict[tuple[str, float], theory.Law | None]:
    """The law of each optimizer and alpha on the population; None where there is no law."""
    return {
        (label, alpha): theory.law(method, quantity, alpha)
        for alpha in grid.alphas
        for label, method in methods(grid, alpha).items()
    }
