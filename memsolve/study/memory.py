"""The memory on which a cell is measured."""

import torch

from memsolve import ranks
from memsolve.engine import Cell, Grid
from memsolve.problem import AssociativeMemory


def memory_of(grid: Grid, cell: Cell, *, hold_tables: bool | None = None) -> AssociativeMemory:
    """The memory of a cell; under torchrun all ranks share its operations.

    Whether it holds its tables is by default a rule of their size.
    """
    first_rank = ranks.current()
    make = AssociativeMemory if first_rank is None else first_rank.memory
    return make(
        num_items=cell.num_items,
        dim=cell.dim,
        alpha=cell.alpha,
        seed=cell.seed,
        anisotropy=grid.anisotropy,
        output_anisotropy=grid.output_anisotropy,
        device=grid.device,
        dtype=getattr(torch, grid.dtype),
        hold_tables=hold_tables,
    )
