"""Tables of embeddings: tensors, or numbers that are drawn again wherever they are used.

A table is used in parts, so that no copy of it is ever made, and drawn in tiles. Both begin at the
same rows whether the table is held or drawn again: so the numbers, and every sum over parts, have
the same bits.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import reduce
from operator import sub
from typing import TypeVar

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

from memsolve.embeddings import EmbeddingMap, size_errors
from memsolve.normals import VECTOR, Normals, NormalSource, Shape

T = TypeVar("T")

TILE_ROWS = 1 << 12
"""Rows that are drawn at a time, from one state of the generator."""

PART_ROWS, PART_BYTES = 1 << 16, 1 << 28
"""Rows that are used at a time, which bound all temporaries; fewer if they take more bytes."""

HELD_BYTES = {"cpu": 1 << 31}
"""Size up to which the two tables of a memory are held, by type of device."""

HELD_BYTES_OF_GPU = 1 << 33
"""The same of any other device."""


class TableNotHeldError(InputError):
    """A whole table is read, but its rows are drawn where they are used."""


class Table(ABC):
    """Embeddings (N, d).

    Attributes:
        shape: `(N, d)`.
        dtype: float32 or float64.
        device: of the rows.
    """

    shape: Shape
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def rows(self, items: Tensor) -> Tensor:
        """The embeddings (M, d) of items (M,) int64, in any order; a copy."""

    @abstractmethod
    def part(self, start: int, stop: int) -> Tensor:
        """Rows from `start` to `stop`, which begin and end a part; not to be changed."""

    @property
    @abstractmethod
    def tensor(self) -> Tensor:
        """The whole table.

        Raises:
            TableNotHeldError: it is not held.
        """

    @property
    def row(self) -> tuple[int, torch.dtype]:
        """`d` and the dtype, which decide how many rows are used at once."""
        return self.shape[1], self.dtype

    @property
    def is_one_part(self) -> bool:
        """Whether all rows are used at once."""
        return len(self.bounds) == 1

    def map_parts(self, function: Callable[[int, Tensor], T]) -> Iterator[T]:
        """The values of a function of the first row of each part and of its rows (R, d).

        Rows are valid until the next part: all may be drawn into one buffer.
        """
        for start, stop in self.bounds:
            yield function(start, self.part(start, stop))

    def sum_parts(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum over all parts of a function of their rows, each value a new tensor."""
        return reduce(Tensor.add_, self.map_parts(lambda _, part: function(part)))

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first row of each part, and the one after its last."""
        return [*intervals(starts_of(self.shape, rows_at_once(*self.row)), self.shape[0])]


class HeldTable(Table):
    """A table as a tensor (N, d)."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.shape = tensor.shape[0], tensor.shape[1]
        self.dtype, self.device = tensor.dtype, tensor.device

    @property
    def tensor(self) -> Tensor:
        """The tensor."""
        return self._tensor

    def rows(self, items: Tensor) -> Tensor:
        """Rows by their index."""
        return self._tensor[items]

    def part(self, start: int, stop: int) -> Tensor:
        """A view."""
        return self._tensor[start:stop]


class DrawnTable(Table):
    """A table whose rows are drawn again, a tile at a time, wherever they are used."""

    def __init__(self, normals: Normals, embed: EmbeddingMap) -> None:
        self._normals, self._embed = normals, embed
        self.shape, self.dtype, self.device = normals.shape, normals.dtype, normals.device
        self._starts = tile_starts(self.shape, self.dtype)
        self._stops = [*self._starts[1:], self.shape[0]]

    @property
    def tensor(self) -> Tensor:
        """Not held."""
        raise TableNotHeldError(
            f"the embeddings {self.shape} are drawn where they are used, and not held; use the "
            "methods of the memory, as memory.retrieval(weight, items), or "
            "AssociativeMemory(..., hold_tables=True)"
        )

    def rows(self, items: Tensor) -> Tensor:
        """Draw the tiles that hold an item, each once."""
        ordered, order = items.sort()
        starts = torch.tensor(self._starts, device=self.device)
        tiles = torch.searchsorted(starts, ordered, right=True) - 1
        tiles, counts = torch.unique_consecutive(tiles, return_counts=True)
        rows, begin = self._empty(len(items)), 0
        buffer = self._empty(max(map(sub, self._stops, self._starts)))
        for tile, count in zip(tiles.tolist(), counts.tolist(), strict=True):
            within = slice(begin, begin + count)
            drawn = self._draw(tile, buffer[: self._stops[tile] - self._starts[tile]])
            torch.index_select(drawn, 0, ordered[within] - self._starts[tile], out=rows[within])
            begin += count
        if torch.equal(ordered, items):
            return rows
        return torch.empty_like(rows).index_copy_(0, order, rows)

    def part(self, start: int, stop: int) -> Tensor:
        """Draw the tiles from `start` to `stop`."""
        return self._draw_part(start, self._empty(stop - start))

    def map_parts(self, function: Callable[[int, Tensor], T]) -> Iterator[T]:
        """Draw each part into the memory of the last; with new memory the heap would grow."""
        buffer = self._empty(max(stop - start for start, stop in self.bounds))
        for start, stop in self.bounds:
            yield function(start, self._draw_part(start, buffer[: stop - start]))

    def _draw_part(self, start: int, part: Tensor) -> Tensor:
        stop = start + len(part)
        tiles = range(bisect_left(self._starts, start), bisect_left(self._starts, stop))
        for tile in tiles:
            self._draw(tile, part[self._starts[tile] - start : self._stops[tile] - start])
        return part

    def _draw(self, tile: int, rows: Tensor) -> Tensor:
        self._normals.fill(rows, self._starts[tile])
        self._embed.apply_(rows)
        return rows

    def _empty(self, num_rows: int) -> Tensor:
        return torch.empty(num_rows, self.shape[1], dtype=self.dtype, device=self.device)


def draw_tables(
    source: NormalSource, shape: Shape, dtype: torch.dtype, kappas: tuple[float, float], hold: bool
) -> tuple[Table, Table]:
    """The tables of inputs and outputs, then their eigenvectors, in this order.

    Args:
        source: draws them.
        shape: `(N, d)` of each.
        dtype: of each.
        kappas: anisotropies of inputs and outputs.
        hold: whether as tensors.
    """
    if not hold:
        starts = tile_starts(shape, dtype)
        normals = [source.describe(shape, dtype, starts) for _ in kappas]
        maps = [EmbeddingMap(shape[1], kappa, source, dtype) for kappa in kappas]
        drawn = [DrawnTable(*each) for each in zip(normals, maps, strict=True)]
        return drawn[0], drawn[1]
    with size_errors(f"two tables of {shape[0]} x {shape[1]} numbers on {source.device}"):
        numbers = [source.draw(shape, dtype) for _ in kappas]
    maps = [EmbeddingMap(shape[1], kappa, source, dtype) for kappa in kappas]
    for table, embed in zip(numbers, maps, strict=True):
        for start, stop in intervals(tile_starts(shape, dtype), shape[0]):
            embed.apply_(table[start:stop])
    return HeldTable(numbers[0]), HeldTable(numbers[1])


def holds_tables(shape: Shape, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a memory holds its tables by default: a rule of their size alone."""
    limit = HELD_BYTES.get(device.type, HELD_BYTES_OF_GPU)
    return 2 * shape[0] * shape[1] * dtype.itemsize <= limit


def rows_at_once(dim: int, dtype: torch.dtype) -> int:
    """Rows of a part: `PART_ROWS`, or the power of two that `PART_BYTES` allow, of whole tiles."""
    fit = PART_BYTES // (dim * dtype.itemsize)
    return max(TILE_ROWS, min(PART_ROWS, 1 << (max(1, fit).bit_length() - 1)))


def tile_starts(shape: Shape, dtype: torch.dtype) -> list[int]:
    """First rows of the tiles. A table of one part is one tile."""
    one_part = len(starts_of(shape, rows_at_once(shape[1], dtype))) == 1
    return [0] if one_part else starts_of(shape, TILE_ROWS)


def starts_of(shape: Shape, size: int) -> list[int]:
    """First rows of pieces of `size` rows; the last takes the rest if that is below `VECTOR`."""
    num_items, dim = shape
    starts = list(range(0, num_items, size))
    if len(starts) > 1 and (num_items - starts[-1]) * dim < VECTOR:
        starts.pop()
    return starts


def intervals(starts: list[int], stop: int) -> Iterator[tuple[int, int]]:
    """Each start with the next one, the last with `stop`."""
    return zip(starts, [*starts[1:], stop], strict=True)
