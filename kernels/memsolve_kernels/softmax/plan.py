"""How the Triton kernels serve a call: the tile of each pass, and its splits of the items."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from memsolve_kernels.softmax.presets import ANY_DIM, FEW, FEW_TABLE, TABLE
from memsolve_kernels.tuning import fastest

PARTIAL_BYTES = 128 * 2**20  # largest size of the weighted sums of splits before they are merged
REGISTERS = 2**16  # of an SM, on every architecture
FULL_SHARE = 0.9  # of the SMs' time; a larger share is not worth more splits
FEW_SPLITS = 16  # limit on splits when there are enough queries to fill every SM without them

Result = TypeVar("Result")


@dataclass(frozen=True)
class TileConfig:
    """The tile of a program, and how it is compiled.

    Attributes:
        block_b: queries.
        block_n: items.
        block_d: dimensions.
        num_warps: warps of a program.
        num_stages: tiles in flight.
        ctas_per_sm: programs resident on an SM at once, some of which multiply while others wait.
        lanes: how many maxima, sums and counts "rank" keeps per row: one for each thread that
            holds some of its columns. On tensor cores these are four threads of a warp times the
            warps side by side along the items; on sm_100 (from 64 queries) one thread. Another
            number is slower, not wrong. block_n is a multiple of 2 lanes.
    """

    block_b: int
    block_n: int
    block_d: int
    num_warps: int
    num_stages: int
    ctas_per_sm: int = 1
    lanes: int = 1

    @property
    def registers(self) -> int | None:
        """Limit of a thread's registers that lets `ctas_per_sm` programs fit; None for no limit.

        It also keeps the compiler from spilling registers in order to fit more programs.
        """
        share = REGISTERS // (32 * self.num_warps * self.ctas_per_sm) // 8 * 8
        return share if share < 256 else None

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Arguments of `launch` that concern the compiler."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "registers": self.registers,
        }

    @property
    def blocks(self) -> dict[str, int]:
        """The tile as arguments of a kernel."""
        return {"BLOCK_B": self.block_b, "BLOCK_N": self.block_n, "BLOCK_D": self.block_d}


@dataclass(frozen=True)
class LaunchConfig:
    """How a pass is launched.

    Attributes:
        tile: of a program.
        precision: of its products, Triton's `input_precision`.
        splits: programs that share the items of one block of queries.
    """

    tile: TileConfig
    precision: str
    splits: int = 1

    def grid(self, batch: int) -> tuple[int, int]:
        """Programs by blocks of queries and by splits."""
        return ceil_div(batch, self.tile.block_b), self.splits

    def items_per_split(self, num_items: int) -> int:
        """Complete tiles, distributed evenly; the last splits may have fewer, or none."""
        return ceil_div(ceil_div(num_items, self.splits), self.tile.block_n) * self.tile.block_n

    def arguments(self, queries: Tensor, outputs: Tensor) -> dict[str, Any]:
        """Arguments that every kernel with a tile has."""
        return {"PRECISION": self.precision, **sizes(queries, outputs), **self.tile.blocks}


def sizes(queries: Tensor, outputs: Tensor) -> dict[str, int]:
    """Arguments of every kernel: the shapes of queries (B, d) and outputs (N, d), and strides."""
    stride_item, stride_dim = outputs.stride()
    return {
        "num_queries": len(queries),
        "num_items": len(outputs),
        "stride_item": stride_item,
        "stride_dim": stride_dim,
        "DIM": queries.shape[1],
    }


def kind_of(dtype: torch.dtype, precision: str) -> str:
    """The kind of a product, as in the table, of inputs in this dtype, which is not float64."""
    return precision if dtype == torch.float32 else "half"


def input_precision(kind: str) -> str:
    """Triton's name of the kind; half precision has only one."""
    return "ieee" if kind == "half" else kind


def tile_configs(name: str, kind: str, arch: int) -> list[TileConfig]:
    """All tiles of a pass, by its name in the table."""
    few = FEW_TABLE.get(name, []) if kind == "half" else []
    many = TABLE.get((name, kind), {}).get(arch, [])
    return [TileConfig(*row) for row in (*few, *many)]


def find_tile(name: str, kind: str, arch: int, dim: int, batch: int) -> TileConfig | None:
    """The tile of a pass for d = `dim` and `batch` queries; None if the table has none.

    Up to FEW queries, which would leave most of a tile empty, have rows of their own in half
    precision: such calls should take the time of reading the outputs once.
    """
    fitting = [
        tile
        for tile in tile_configs(name, kind, arch)
        if (dim <= tile.block_d or name in ANY_DIM) and (batch <= FEW or tile.block_b > FEW)
    ]
    if not fitting:
        return None
    best = min(fitting, key=lambda tile: (tile.block_d, abs(tile.block_b - batch)))
    return replace(best, block_d=min(best.block_d, max(16, 1 << (dim - 1).bit_length())))


def neighbours(tile: TileConfig) -> Iterator[TileConfig]:
    """The tile, followed by variations of its size, its warps and its pipeline."""
    yield tile
    sizes = [(tile.block_b, tile.block_n), (tile.block_b, tile.block_n // 2)]
    sizes += [(tile.block_b, tile.block_n * 2), (tile.block_b // 2, tile.block_n)]
    for (rows, items), warps, stages in itertools.product(sizes, (4, 8), (2, 3, 4)):
        changes = {"block_b": rows, "block_n": items, "num_warps": warps, "num_stages": stages}
        candidate = replace(tile, **changes, ctas_per_sm=1)
        if min(rows, items) >= 16 and candidate != tile:
            yield candidate


class Plan(NamedTuple):
    """What determines the tiles and splits of a call.

    Attributes:
        kind: of the products, as in the table of presets.
        arch: architecture in that table, such as 90.
        num_sms: of the device.
        batch: queries, at least one.
        dim: d.
        items: N.
    """

    kind: str
    arch: int
    num_sms: int
    batch: int
    dim: int
    items: int

    @classmethod
    def of(cls, queries: Tensor, outputs: Tensor, arch: int, precision: str) -> "Plan":
        """The plan for queries (B, d) against outputs (N, d)."""
        kind, (batch, dim) = kind_of(queries.dtype, precision), queries.shape
        return cls(kind, arch, count_sms(queries.device), batch, dim, len(outputs))

    def find_tile(self, name: str) -> TileConfig | None:
        """The tile of a pass, None if the table has none for this d."""
        return find_tile(name, self.kind, self.arch, self.dim, self.batch)

    def tile_for_any_dim(self, name: str) -> TileConfig:
        """The tile of a pass whose kernel iterates over d."""
        tile = self.find_tile(name)
        assert tile is not None, f"no preset for {name}, {self.kind}, sm_{self.arch}"
        return tile

    def one_pass(
        self, name: str, tile: TileConfig, launcher: Callable[..., Result], inputs: tuple[Any, ...]
    ) -> Result:
        """`launcher(*inputs, config)` with this tile, or the tuned one."""

        def run(tile: TileConfig) -> Result:
            blocks = ceil_div(self.batch, tile.block_b)
            splits = self._splits(blocks, tile.block_n, tile.ctas_per_sm)
            return launcher(*inputs, LaunchConfig(tile, input_precision(self.kind), splits))

        return run(fastest(self._key(name), neighbours(tile), run))

    def two_passes(
        self, name: str, launcher: Callable[..., Result], inputs: tuple[Any, ...]
    ) -> Result:
        """`launcher(*inputs, weigh, add)` with a configuration for each of its two kernels.

        The pass of this name weighs; "accumulate" adds.
        """

        def run(weigh: TileConfig, add: TileConfig) -> Result:
            blocks = ceil_div(self.batch, add.block_b) * ceil_div(self.dim, add.block_d)
            splits = self._splits(blocks, weigh.block_n, add.ctas_per_sm)
            precision = input_precision(self.kind)
            configs = (LaunchConfig(tile, precision, splits) for tile in (weigh, add))
            return launcher(*inputs, *configs)

        weigh, add = self.tile_for_any_dim(name), self.tile_for_any_dim("accumulate")
        add = fastest(self._key("accumulate"), neighbours(add), functools.partial(run, weigh))
        weigh = fastest(self._key(name), neighbours(weigh), lambda tile: run(tile, add))
        return run(weigh, add)

    def _splits(self, blocks: int, block_n: int, ctas_per_sm: int) -> int:
        limit = max(1, PARTIAL_BYTES // (4 * self.batch * self.dim))
        tiles = ceil_div(self.items, block_n)
        return count_splits(blocks, tiles, self.num_sms * ctas_per_sm, limit)

    def _key(self, name: str) -> tuple[Any, ...]:
        """Identifies calls that share a tuned tile: their sizes are within a factor of 2."""
        sizes = self.dim, self.batch.bit_length(), self.items.bit_length()
        return "softmax", name, self.kind, self.arch, *sizes


@functools.lru_cache(maxsize=4096)
def count_splits(blocks: int, tiles: int, slots: int, limit: int) -> int:
    """The smallest number of splits that keeps the SMs busy, or else the best one within limits.

    Args:
        blocks: blocks of queries, each of which runs once per split.
        tiles: tiles of items to be distributed over the splits.
        slots: programs that run at once.
        limit: largest number of splits, by memory.
    """
    limit = min(tiles, limit, max(FEW_SPLITS, slots // blocks))
    best, best_share = 1, 0.0
    for splits in range(1, limit + 1):
        rounds = math.ceil(blocks * splits / slots) * math.ceil(tiles / splits)
        share = blocks * tiles / (slots * rounds)
        if share >= FULL_SHARE:
            return splits
        if share > best_share:
            best, best_share = splits, share
    return best


@functools.cache
def count_sms(device: torch.device) -> int:
    """Streaming multiprocessors of a device; the interpreter counts as one."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def ceil_div(numerator: int, denominator: int) -> int:
    """The quotient, rounded up."""
    return -(-numerator // denominator)
