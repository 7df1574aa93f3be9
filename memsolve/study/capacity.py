"""How many facts one step on the population gradient stores, against `d`."""

from itertools import product
from pathlib import Path

import numpy as np

from memsolve import theory
from memsolve.study.fit import power_law_exponent
from memsolve.study.grid import Cell, Grid
from memsolve.study.run import run
from memsolve.study.summary import Fit, Summary


def capacity(grid: Grid, out: Path | str | None = None, *, resume: bool = False) -> Summary:
    """Fit the exponent of the number of recovered items in `d`, for every optimizer and alpha.

    Args:
        grid: what to vary; its batch sizes are not used.
        out: folder for the cells and `summary.json`; None writes nothing.
        resume: continue what an interrupted run left in `out`.
    """
    cells = [
        Cell(optimizer, alpha, dim, grid.items_of(dim), None, seed)
        for alpha, dim, seed in product(grid.alphas, grid.dims, range(grid.seeds))
        for optimizer in grid.labels
    ]
    folder = None if out is None else Path(out)
    results = run("capacity", grid, cells, folder, resume=resume)

    def fit(optimizer: str, alpha: float) -> Fit:
        points = []
        for dim in grid.dims:
            here = [
                result
                for cell, result in results.items()
                if (cell.optimizer, cell.alpha, cell.dim) == (optimizer, alpha, dim)
            ]
            points.append(
                {
                    "dim": dim,
                    "num_items": grid.items_of(dim),
                    "recovered": [result["recovered"] for result in here],
                    "top_rank": [result["top_rank"] for result in here],
                }
            )
        estimate = power_law_exponent(
            grid.dims,
            [np.array(point["recovered"], dtype=float) for point in points],
            [lambda counts: counts.mean(1)] * len(grid.dims),
        )
        law = theory.exponent(optimizer, "recovered", alpha)
        return Fit(optimizer, alpha, "recovered", estimate, law, points)

    fits = [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]
    return Summary.of("capacity", grid, fits, folder)
