"""The batch size at which what small batches recover reaches the population's, against `d`."""

from itertools import product
from pathlib import Path

import numpy as np

from memsolve import theory
from memsolve.study.crossing import Crossing
from memsolve.study.fit import Estimate, Floats, power_law_exponent
from memsolve.study.grid import Cell, Grid
from memsolve.study.run import run
from memsolve.study.summary import Fit, Summary


def saturation(grid: Grid, out: Path | str | None = None, *, resume: bool = False) -> Summary:
    """Fit the exponent of the saturation batch size in `d`, for every optimizer and alpha.

    Args:
        grid: what to vary.
        out: folder for the cells and `summary.json`; None writes nothing.
        resume: continue what an interrupted run left in `out`.
    """
    cells = [
        Cell(optimizer, alpha, dim, grid.items_of(dim), batch_size, seed)
        for alpha, dim, seed in product(grid.alphas, grid.dims, range(grid.seeds))
        for batch_size in [*grid.batch_sizes_of(alpha, dim), None]
        for optimizer in grid.labels
    ]
    folder = None if out is None else Path(out)
    results = run("saturation", grid, cells, folder, resume=resume)

    def counts(optimizer: str, alpha: float, dim: int) -> Floats:
        """(S, K + 1): seeds by batch sizes, the population last."""
        batch_sizes = [*grid.batch_sizes_of(alpha, dim), None]
        num_items = grid.items_of(dim)
        return np.array(
            [
                [
                    results[Cell(optimizer, alpha, dim, num_items, size, seed)]["recovered"]
                    for size in batch_sizes
                ]
                for seed in range(grid.seeds)
            ],
            dtype=float,
        )

    def fit(optimizer: str, alpha: float) -> Fit:
        crossings = [
            Crossing(alpha, grid.items_of(dim), grid.batch_sizes_of(alpha, dim))
            for dim in grid.dims
        ]
        samples = [counts(optimizer, alpha, dim) for dim in grid.dims]
        points = [
            {"dim": dim, **crossing.point(sample)}
            for dim, crossing, sample in zip(grid.dims, crossings, samples, strict=True)
        ]
        estimate = power_law_exponent(grid.dims, samples, crossings)
        open_at = [str(point["dim"]) for point in points if point["value"] is None]
        if open_at:
            estimate = Estimate(None, note=f"not identified at d = {', '.join(open_at)}")
        law = theory.exponent(optimizer, "saturation_batch_size", alpha)
        return Fit(optimizer, alpha, "saturation_batch_size", estimate, law, points)

    fits = [fit(optimizer, alpha) for alpha in grid.alphas for optimizer in grid.labels]
    return Summary.of("saturation", grid, fits, folder)
