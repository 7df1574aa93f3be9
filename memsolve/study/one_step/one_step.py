"""One step from `W = 0`, measured: what the studies of one step share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, TypeVar

import numpy as np
import torch

from memsolve import theory
from memsolve.engine import Cell, Grid, Point, Study
from memsolve.engine.results.estimate import Estimate, power_law_exponent
from memsolve.objective import Objective
from memsolve.optimizers.registry import resolve
from memsolve.problem import AssociativeMemory, Batch
from memsolve.seeds import seeded
from memsolve.study.memory import memory_of
from memsolve.training import step_from_zero


@dataclass(frozen=True)
class StepResult:
    """What a step has stored of the items of its batch.

    Attributes:
        recovered: items whose own logit is the largest.
        top_rank: highest rank of which 99% of the items up to it are recovered.
    """

    recovered: int
    top_rank: int


@dataclass(frozen=True)
class CapacityPoint(Point):
    """What every seed has stored at one `d`.

    Attributes:
        num_items: number of facts `N`.
        recovered: items recovered, by seed.
        top_rank: highest recovered rank, by seed.
    """

    axes: ClassVar = {"recovered": "S", "top_rank": "S"}

    num_items: int
    recovered: list[int]
    top_rank: list[int]

    @property
    def mean(self) -> float:
        """Items recovered, mean over seeds."""
        return float(np.mean(self.recovered))


P = TypeVar("P", bound=Point)
Results = Mapping[Cell, StepResult]


class OneStep(Study[Grid, Cell, StepResult, P]):
    """A study of what one step from `W = 0` stores."""

    grid = Grid()
    cell = Cell
    result = StepResult

    def measure(self, grid: Grid, cells: Sequence[Cell]) -> Iterator[StepResult]:
        """One step of each cell's optimizer; cells of one batch share its gradient."""
        memory = memory_of(grid, cells[0])
        builders = resolve(grid.choices)
        for batch_size, same_batch in groupby(cells, lambda cell: cell.batch_size):
            batch = draw(memory, batch_size, cells[0].seed)
            objective = Objective(memory, batch)
            for cell in same_batch:
                with seeded(grid.device, cell.seed, cell.dim):
                    weight = step_from_zero(objective, builders[cell.optimizer])
                recall = memory.recall(weight, batch.items)
                yield StepResult(recall.count, recall.top_rank())


def draw(memory: AssociativeMemory, batch_size: int | None, seed: int) -> Batch:
    """The batch of a cell: the same for every optimizer; the population without a size."""
    if batch_size is None:
        return memory.population()
    (state,) = np.random.SeedSequence([seed, memory.dim, batch_size]).generate_state(1, np.uint64)
    return memory.sample(batch_size, torch.Generator().manual_seed(int(state)))


def counts(
    grid: Grid, results: Results, optimizer: str, alpha: float, dim: int, size: int | None = None
) -> list[StepResult]:
    """What every seed has stored at one place of the grid."""
    num_items = grid.items_of(dim)
    return [
        results[Cell(optimizer, alpha, dim, num_items, size, seed)] for seed in range(grid.seeds)
    ]


def points(grid: Grid, results: Results, optimizer: str, alpha: float) -> list[CapacityPoint]:
    """What one optimizer stores of the population at one alpha, at each `d`."""
    found = [counts(grid, results, optimizer, alpha, dim) for dim in grid.dims]
    return [
        CapacityPoint(
            dim, grid.items_of(dim), [r.recovered for r in here], [r.top_rank for r in here]
        )
        for dim, here in zip(grid.dims, found, strict=True)
    ]


def exponent(grid: Grid, points: Sequence[CapacityPoint]) -> Estimate:
    """Exponent in `d` of the number recovered, mean over seeds."""
    return power_law_exponent(
        grid.dims,
        [np.array(point.recovered, dtype=float) for point in points],
        [lambda counts: counts.mean(1)] * len(grid.dims),
    )


def methods(grid: Grid, steps: int = 1) -> dict[str, theory.Method | None]:
    """The theory's method of each optimizer of a grid, over a number of steps, by label."""
    memory = AssociativeMemory(2, 2, 2.0, seed=0)
    objective = Objective(memory, memory.population())
    weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    return {
        label: theory.method_of(build([weight], objective), steps)
        for label, build in resolve(grid.choices).items()
    }


def laws(grid: Grid, quantity: theory.Quantity) -> dict[tuple[str, float], theory.Law | None]:
    """The law of every optimizer and alpha of a grid."""
    return {
        (label, alpha): theory.law(method, quantity, alpha)
        for label, method in methods(grid).items()
        for alpha in grid.alphas
    }
