"""The memory on which a cell is measured."""

import torch

from memsolve import ranks
from memsolve.engine import Cell, Grid
from memsolve.problem import AssociativeMemory


def memory_of(grid: Grid, cell: Cell) -> AssociativeMemory:
    """The memory of a cell; where a rank runs the study, shared with the other ranks."""
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
    )
