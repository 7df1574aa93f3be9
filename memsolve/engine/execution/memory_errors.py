"""Errors where memory runs out, with the size of the cell that needed it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from memsolve_kernels.errors import InputError

from memsolve.engine.cell import Cell
from memsolve.engine.grid import Grid
from memsolve.faults import MachineError, OutOfMemoryError, StepError, format_bytes, machine_error
from memsolve.tables import holds_tables


def with_cell_size(
    error: StepError | MachineError, grid: Grid, cell: Cell
) -> StepError | MachineError:
    """The error; if memory ran out, with the size of the cell and what to lower."""
    if not isinstance(error, OutOfMemoryError):
        return error
    shape, dtype = (cell.num_items, cell.dim), getattr(torch, grid.dtype)
    held = ""
    if holds_tables(shape, dtype, torch.device(grid.device)):
        embeddings = format_bytes(2 * cell.num_items * cell.dim * dtype.itemsize)
        held = f"; the embeddings alone take {embeddings}"
    batch = "population" if cell.batch_size is None else f"batch of {cell.batch_size}"
    single = "" if grid.dtype == "float32" else ", or take --dtype float32"
    return OutOfMemoryError(
        f"{error} (d = {cell.dim}, N = {cell.num_items}, {batch}{held}); lower --num-items, --dims "
        f"or --batch-sizes{single}"
    )


@contextmanager
def sized_memory_errors(grid: Grid, cell: Cell, what: str) -> Iterator[None]:
    """Raise errors where memory runs out with the size of the cell.

    Raises:
        OutOfMemoryError: there was none.
    """
    try:
        yield
    except (MemoryError, RuntimeError, InputError) as error:
        failure = error if isinstance(error, MachineError) else machine_error(error)
        if not isinstance(failure, OutOfMemoryError):
            raise
        raise OutOfMemoryError(f"{what}: {with_cell_size(failure, grid, cell)}") from error
