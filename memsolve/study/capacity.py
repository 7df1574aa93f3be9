"""How many facts one step on the population gradient stores, against `d`."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from memsolve_kernels.errors import RangeError

from memsolve import theory
from memsolve.study.fit import power_law_exponent
from memsolve.study.grid import Cell, Grid
from memsolve.study.run import run
from memsolve.study.store import Result
from memsolve.study.summary import Fit, Summary


def capacity(grid: Grid, out: Path | str | None = None, *, resume: bool = False) -> Summary:
    """Fit the exponent of the number of recovered items in `d`, for every optimizer and alpha.

    Args:
        grid: what to vary, without batch sizes.
        out: folder for the cells and `summary.json`; None writes nothing.
        resume: continue what an interrupted run left in `out`.
    """
    folder = None if out is None else Path(out)
    results = run("capacity", grid, population_cells(grid), folder, resume=resume)
    return Summary.of("capacity", grid, recovered_fits(grid, results), folder)


def population_cells(grid: Grid) -> list[Cell]:
    """One cell an optimizer, memory and seed, on the population gradient.

    Raises:
        RangeError: the grid has batch sizes.
    """
    if grid.batch_sizes is not None:
        raise RangeError(
            f"batch_sizes is {list(grid.batch_sizes)}, but this study takes the population "
            "gradient; leave it out, or run saturation"
        )
    return [
        Cell(optimizer, alpha, dim, grid.items_of(dim), None, seed)
        for alpha, dim, seed in product(grid.alphas, grid.dims, range(grid.seeds))
        for optimizer in grid.labels
    ]


def recovered_fits(grid: Grid, results: dict[Cell, Result]) -> list[Fit]:
    """Exponent of the number recovered, with the counts of every seed at each `d`."""

    def point(optimizer: str, alpha: float, dim: int) -> dict[str, Any]:
        num_items = grid.items_of(dim)
        here = [
            results[Cell(optimizer, alpha, dim, num_items, None, seed)]
            for seed in range(grid.seeds)
        ]
        return {
            "dim": dim,
            "num_items": num_items,
            "recovered": [result["recovered"] for result in here],
            "top_rank": [result["top_rank"] for result in here],
        }

    def fit(optimizer: str, alpha: float) -> Fit:
        points = [point(optimizer, alpha, dim) for dim in grid.dims]
        estimate = power_law_exponent(
            grid.dims,
            [np.array(point["recovered"], dtype=float) for point in points],
            [lambda counts: counts.mean(1)] * len(grid.dims),
        )
        law = theory.exponent(optimizer, "recovered", alpha)
        return Fit(optimizer, alpha, "recovered", estimate, law, points)

    return [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]
