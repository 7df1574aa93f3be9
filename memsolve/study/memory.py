"""The memory on which a cell is measured."""

import torch

from memsolve.engine import Cell, Grid
from memsolve.problem import AssociativeMemory


def memory_of(grid: Grid, cell: Cell, *, hold_tables: bool | None = None) -> AssociativeMemory:
    """The memory of a cell; whether it holds its tables is by default a rule of their size."""
    return AssociativeMemory(
        cell.num_items,
        cell.dim,
        cell.alpha,
        seed=cell.seed,
        anisotropy=grid.anisotropy,
        output_anisotropy=grid.output_anisotropy,
        device=grid.device,
        dtype=getattr(torch, grid.dtype),
        hold_tables=hold_tables,
    )
