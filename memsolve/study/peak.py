"""The memory that cells take, counted from their sizes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import torch

from memsolve.engine.peak import Peak
from memsolve.engine.results.summary import P
from memsolve.engine.study import C, G, R, Study
from memsolve.passes import QUERIES
from memsolve.recall import FIRST_TILE
from memsolve.tables import TILE_ROWS, holds_tables, rows_at_once
from memsolve.theory import limit

STATE_BYTES = 5056
"""A state of a generator of the CPU."""

MATRICES = 16
"""Matrices (d, d) of an optimizer and of its step, at most."""

GRADIENT_ROWS, HVP_ROWS = (5, 8), (8, 11)
"""Arrays (U, d) that a pass of `U` queries takes over one part of the outputs, and over several."""


@dataclass(frozen=True)
class CellSize:
    """The sizes that decide the memory of a cell, in bytes.

    Attributes:
        num_items: `N`.
        dim: `d`.
        dtype: of the embeddings.
        device: of the embeddings.
        batch_size: items drawn, or None for the population.
        alpha: exponent of the frequencies.
    """

    num_items: int
    dim: int
    dtype: torch.dtype
    device: torch.device
    alpha: float
    batch_size: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether the tables are held."""
        return holds_tables((self.num_items, self.dim), self.dtype, self.device)

    @property
    def part_rows(self) -> int:
        """Rows of a part of a table."""
        return min(self.num_items, rows_at_once(self.dim, self.dtype))

    @property
    def batch_rows(self) -> int:
        """Distinct items of a batch.

        Of a large batch `gamma(1 - 1/alpha) (B / zeta(alpha))^(1/alpha)`, from the number of items
        with at least one draw if draws are independent (derived).
        """
        if self.batch_size is None:
            return self.num_items
        zeta = 1 / (self.alpha - 1) + 0.5772
        distinct = math.gamma(1 - 1 / self.alpha) * (self.batch_size / zeta) ** (1 / self.alpha)
        return min(self.num_items, self.batch_size, int(distinct) + 1)

    def rows(self, count: float) -> float:
        """So many embeddings."""
        return count * self.dim * self.dtype.itemsize

    def tables(self) -> float:
        """Both tables, or the states from which they are drawn."""
        if self.is_held:
            return self.rows(2 * self.num_items)
        is_cpu = self.device.type == "cpu"
        return 2 * self.num_items / TILE_ROWS * STATE_BYTES if is_cpu else 0.0

    def drawn_part(self) -> float:
        """A part of a table, where it is not a view of the table."""
        return 0.0 if self.is_held else self.rows(self.part_rows)

    def items(self) -> float:
        """Frequencies, and a batch with its weights and what is recovered of it."""
        is_copied = self.dtype != torch.float64 or self.device.type != "cpu"
        of_batch = 8 + self.dtype.itemsize * (is_copied or self.batch_size is not None) + 2
        frequencies = 8.0 * self.num_items if self.device.type == "cpu" else 0.0
        return frequencies + of_batch * self.batch_rows

    def draws(self) -> float:
        """Making the frequencies, or drawing a batch from them: arrays of all items."""
        return 16.0 * self.num_items

    def matrices(self) -> float:
        """Of the optimizer and of its step."""
        return self.rows(MATRICES * self.dim)


def one_step(size: CellSize) -> float:
    """Bytes of one step from `W = 0`: its gradient in closed form, and the recall of its items."""
    gradient = size.rows(2 * size.part_rows)
    parts = max(gradient, _recall(size), size.draws())
    return size.tables() + size.items() + size.matrices() + parts


def damping(size: CellSize) -> float:
    """Bytes of the damped steps of a gradient, in the bases of whose singular vectors all is held.

    Both tables, the same in these bases, and two products of them.
    """
    return size.rows(6 * size.num_items) + size.items() + size.matrices()


def training(size: CellSize, arrays: tuple[int, int] = GRADIENT_ROWS) -> float:
    """Bytes of training: a pass of a batch over the outputs, and the recall of all items.

    Args:
        size: of the cell.
        arrays: (U, d) of a pass; `HVP_ROWS` for second-order methods.
    """
    is_one_part = size.part_rows == size.num_items
    rows = size.batch_rows if is_one_part else min(size.batch_rows, QUERIES)
    step = size.rows(arrays[not is_one_part] * rows) + size.drawn_part()
    population = replace(size, batch_size=None)
    items = population.items() + size.items()
    parts = max(step, _recall(population), size.draws())
    return size.tables() + items + size.matrices() + parts


def _recall(size: CellSize) -> float:
    """Queries and own outputs of a part of the items, then logits of the first rivals."""
    rows = min(size.batch_rows, size.part_rows)
    survivors = min(limit(size.dim, size.num_items), rows)
    logits = rows * FIRST_TILE * (size.dtype.itemsize + 1)
    return size.drawn_part() + size.rows(rows + survivors) + max(size.rows(rows), logits)


def largest(study: Study[G, C, R, P], grid: G, count: Callable[[CellSize], float]) -> Peak | None:
    """The cell of a grid that takes most by a count of bytes; None if the device is unknown.

    Raises:
        RangeError: the grid has batch sizes, and the study uses none.
    """
    is_gpu = grid.device == "auto" and torch.cuda.is_available()
    name = "cuda" if is_gpu else grid.device.replace("auto", "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:  # is refused later
        return None
    dtype: torch.dtype = getattr(torch, grid.dtype)
    sizes = [
        CellSize(grid.items_of(dim), dim, dtype, device, alpha, batch_size)
        for alpha, dim in product(grid.alphas, grid.dims)
        for batch_size in study.batch_sizes(grid, alpha, dim)
    ]
    size = max(sizes, key=count)
    return Peak(count(size), size.dim, size.num_items, name)


def largest_of_training(study: Study[G, C, R, P], grid: G) -> Peak | None:
    """The cell of a grid that takes most to train; Newton's optimizers are known by their label."""
    is_second_order = any("newton" in label.lower() for label in grid.labels)
    arrays = HVP_ROWS if is_second_order else GRADIENT_ROWS
    return largest(study, grid, lambda size: training(size, arrays))
