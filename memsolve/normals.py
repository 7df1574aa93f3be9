"""Standard normal numbers that are the same when they are drawn again, some rows at a time."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int, int]

VECTOR = 16
"""Numbers that torch draws together on a CPU, the last of a tensor always anew.

So a tensor can be drawn in pieces that start at a multiple of it and hold at least as many.
"""

BLOCK = 1 << 14
"""Numbers drawn with a seed of their own on a GPU.

Torch draws on as many threads as there are numbers, unless the GPU holds fewer at a time; which
number a thread draws next then depends on the GPU. Any with 16 multiprocessors holds this many.
"""


class Normals(ABC):
    """A table (N, d) of independent normal numbers, of which any piece can be drawn again.

    Attributes:
        shape: of the table.
        dtype: float32 or float64.
        device: on which numbers are drawn.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device

    @abstractmethod
    def fill(self, rows: Tensor, start: int) -> None:
        """Write the numbers of the piece that begins at row `start` into `rows` (M, d)."""


class NormalSource(ABC):
    """Draws one table after the other."""

    device: torch.device

    @abstractmethod
    def draw(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        """The next table."""

    @abstractmethod
    def describe(self, shape: Shape, dtype: torch.dtype, starts: Sequence[int]) -> Normals:
        """The next table, to be drawn in pieces of rows that begin at `starts`."""


def normal_source(seed: int, device: torch.device) -> NormalSource:
    """The numbers of a seed: on a CPU those of `torch.randn`, elsewhere those of `BlockSource`."""
    if device.type == "cpu":
        return SequentialSource(torch.Generator(device).manual_seed(seed))
    return BlockSource(seed, device)


class SequentialSource(NormalSource):
    """The numbers of a generator of the CPU, as `torch.randn` draws them."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.device = generator, generator.device

    def draw(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        """`torch.randn` of the shape."""
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=dtype)

    def describe(self, shape: Shape, dtype: torch.dtype, starts: Sequence[int]) -> Normals:
        """The table whose rows are, bit for bit, those of `draw`.

        A start must be at a multiple of `VECTOR` numbers, with as many behind it, unless it is 0.
        """
        return SequentialNormals(self.generator, shape, dtype, starts)


class SequentialNormals(Normals):
    """The next table of a generator, as its states (5 KB each) at the starts of pieces.

    Args:
        generator: of the CPU; it advances as if the table were drawn.
        shape: of the table.
        dtype: of its numbers.
        starts: first rows of the pieces, increasing from 0; see `SequentialSource.describe`.
    """

    def __init__(
        self, generator: torch.Generator, shape: Shape, dtype: torch.dtype, starts: Sequence[int]
    ) -> None:
        super().__init__(shape, dtype, generator.device)
        self._states: dict[int, Tensor] = {}
        sizes = [
            (stop - start) * shape[1]
            for start, stop in zip(starts, [*starts[1:], shape[0]], strict=True)
        ]
        buffer = torch.empty(max(sizes), dtype=dtype)  # one: the heap would grow by many
        for start, size in zip(starts, sizes, strict=True):
            self._states[start] = generator.get_state()
            _skip(generator, buffer[:size], is_last=start == starts[-1])

    def fill(self, rows: Tensor, start: int) -> None:
        """Write one piece."""
        generator = torch.Generator(self.device)
        generator.set_state(self._states[start])
        rows.normal_(generator=generator)


def _skip(generator: torch.Generator, numbers: Tensor, *, is_last: bool) -> None:
    """Advance a generator as if it drew these numbers, of which torch draws the last twice."""
    if len(numbers) < VECTOR:
        numbers.normal_(generator=generator)
        return
    numbers.uniform_(generator=generator)  # as many random bits as a normal number, in less time
    if is_last and len(numbers) % VECTOR:
        numbers[:VECTOR].uniform_(generator=generator)


class BlockSource(NormalSource):
    """Numbers in blocks with seeds of their own, the same on any GPU, in any order.

    Number `i` of a table is number `i % BLOCK` of a generator seeded by the hash of the seed, of
    the table's index and of `i // BLOCK`. It does not depend on the number of multiprocessors, as
    the numbers of `torch.randn` do (pytorch#196613), for GPUs with at least 16. It may depend on
    the version of torch.

    Args:
        seed: any integer.
        device: on which numbers are drawn; any but "meta", of which the CPU serves tests.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = torch.empty(0, device=device).device  # with its index
        self._seed, self._tables = seed, 0

    def draw(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        """The next table, block by block."""
        numbers = torch.empty(shape, dtype=dtype, device=self.device)
        self.describe(shape, dtype, [0]).fill(numbers, 0)
        return numbers

    def describe(self, shape: Shape, dtype: torch.dtype, starts: Sequence[int]) -> Normals:
        """The next table, of which any rows can be drawn."""
        self._tables += 1
        return BlockNormals((self._seed % 2**64, self._tables), shape, dtype, self.device)


class BlockNormals(Normals):
    """A table as the entropy that seeds its blocks."""

    def __init__(
        self, entropy: tuple[int, ...], shape: Shape, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(shape, dtype, device)
        self._entropy = entropy
        self._generator = torch.Generator(device)

    def fill(self, rows: Tensor, start: int) -> None:
        """Write rows, block by block; of those at the ends only a part."""
        numbers, first = rows.view(-1), start * self.shape[1]
        buffer = torch.empty(BLOCK, dtype=self.dtype, device=self.device)
        for block in range(first // BLOCK, math.ceil((first + len(numbers)) / BLOCK)):
            sequence = np.random.SeedSequence([*self._entropy, block])
            (seed,) = sequence.generate_state(1, np.uint64)
            buffer.normal_(generator=self._generator.manual_seed(int(seed)))
            begin = block * BLOCK - first
            part = numbers[max(begin, 0) : begin + BLOCK]
            skipped = max(-begin, 0)
            part.copy_(buffer[skipped : skipped + len(part)])
