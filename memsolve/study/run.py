"""Running the cells of a grid: one step each, from `W = 0`."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from memsolve.optim.step import StepError, step_from_zero
from memsolve.problem import AssociativeMemory, Batch
from memsolve.study.environment import environment
from memsolve.study.grid import Cell, Grid
from memsolve.study.store import Result, Store


def run(
    study: str, grid: Grid, cells: Sequence[Cell], out: Path | None, *, resume: bool
) -> dict[Cell, Result]:
    """Results of all `cells`, in their order, with a progress bar.

    Args:
        study: its name, for the progress bar and the settings on disk.
        grid: where device, dtype and optimizers come from.
        cells: neighbours that share a memory, or a batch, share the work of making it.
        out: folder that keeps each result as soon as it is there; None keeps nothing.
        resume: take the results found in `out` and run only the rest.
    """
    results: dict[Cell, Result] = {}
    keep = results.__setitem__
    if out is not None:
        settings = {"study": study, **grid.settings(), **environment(grid.device)}
        store = Store(out, settings, resume=resume)
        results, keep = store.results, store.add
    left = [cell for cell in cells if cell not in results]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task(study, total=len(cells), completed=len(cells) - len(left))
        for cell, result in _results(grid, left):
            keep(cell, result)
            progress.update(task, advance=1, description=f"{study} d={cell.dim}")
    return {cell: results[cell] for cell in cells}


def _results(grid: Grid, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Result]]:
    dtype = getattr(torch, grid.dtype)
    for shape, same_memory in groupby(cells, lambda c: (c.num_items, c.dim, c.alpha, c.seed)):
        *sizes, seed = shape
        memory = AssociativeMemory(*sizes, seed=seed, device=grid.device, dtype=dtype)
        zero = torch.zeros_like(memory.output_covariance)
        for batch_size, same_batch in groupby(same_memory, lambda c: c.batch_size):
            batch = draw(memory, batch_size, seed)
            gradient = memory.gradient(zero, batch)
            for cell in same_batch:
                try:
                    weight = step_from_zero(gradient, grid.builders[cell.optimizer], memory, batch)
                except StepError as error:
                    raise StepError(f"{error}, at {cell}") from error
                recall = memory.recall(weight, batch.items)
                yield cell, {"recovered": recall.count, "top_rank": recall.top_rank()}


def draw(memory: AssociativeMemory, batch_size: int | None, seed: int) -> Batch:
    """The batch of a cell: the same for every optimizer; the population without a size."""
    if batch_size is None:
        return memory.population()
    (state,) = np.random.SeedSequence([seed, memory.dim, batch_size]).generate_state(1, np.uint64)
    return memory.sample(batch_size, torch.Generator().manual_seed(int(state)))
