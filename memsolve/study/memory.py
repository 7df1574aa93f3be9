"""The memory on which a cell is measured."""

import torch

from memsolve.engine import Cell, Grid
from memsolve.problem import AssociativeMemory


def memory_of(grid: Grid, cell: Cell) -> AssociativeMemory:
    """The memory of a cell."""
    return AssociativeMemory(
        cell.num_items,
        cell.dim,
        cell.alpha,
        seed=cell.seed,
        anisotropy=grid.anisotropy,
        output_anisotropy=grid.output_anisotropy,
        device=grid.device,
        dtype=getattr(torch, grid.dtype),
    )
