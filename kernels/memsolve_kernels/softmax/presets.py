"""Launch configurations: one table, by family, kind of product, largest d, and architecture."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from memsolve_kernels.architectures import preset as preset_of

FEW = 16, 64  # queries that get a tile of their own size; a tensor core takes 16 at least
TILED = ("rank", "weights", "centred", "pulls", "accumulate")  # families that take any d in steps


@dataclass(frozen=True)
class Preset:
    """Sizes of a program's tile and what the compiler makes of it.

    Attributes:
        block_b: queries.
        block_n: items.
        block_d: dimensions.
        num_warps: warps of a program.
        num_stages: tiles in flight.
    """

    block_b: int
    block_n: int
    block_d: int
    num_warps: int
    num_stages: int


# block_b, block_n, block_d, num_warps, num_stages, by architecture; a row serves d up to block_d.
#
# "odds" and "covariance" keep a weighted sum of block_d columns on chip, and "curvature" two; where
# d is larger than that, "odds" and "covariance" in turn take its place. Where it is larger than
# they hold, "weights" or "centred" fill a scratch and "accumulate" multiplies it, all walking any d
# in steps; their block_n must be a multiple of that of "accumulate". "rank" walks d as well. Every
# row is the largest tile tried that spills with neither the oldest nor the newest Triton; none has
# been timed on a GPU yet. Where an architecture has no rows it borrows (`architectures.BORROWED`).
_Row = tuple[int, int, int, int, int]
TABLE: dict[tuple[str, str], dict[int, list[_Row]]] = {
    ("odds", "half"): {
        80: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 2), (64, 64, 256, 8, 2), (64, 32, 512, 8, 2)],
        86: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 2), (64, 64, 256, 8, 2), (64, 16, 512, 8, 2)],
        90: [
            (128, 128, 64, 8, 3),
            (128, 128, 128, 8, 3),
            (128, 64, 256, 8, 3),
            (64, 32, 512, 8, 2),
        ],
        100: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 3), (64, 64, 256, 8, 2)],
        120: [(128, 64, 64, 8, 3), (64, 64, 128, 4, 2), (64, 64, 256, 8, 2), (64, 16, 512, 8, 2)],
    },
    ("odds", "tf32"): {
        80: [(128, 64, 64, 8, 2), (64, 64, 128, 8, 2)],
        90: [(128, 64, 64, 8, 2), (128, 32, 128, 8, 2)],
        100: [(128, 64, 64, 8, 2), (128, 32, 128, 8, 2)],
    },
    ("odds", "tf32x3"): {
        80: [],
        90: [(128, 32, 64, 8, 2)],
        100: [(64, 64, 64, 8, 2)],
    },
    ("curvature", "half"): {
        80: [(128, 32, 64, 8, 3), (64, 64, 128, 8, 2)],
        90: [(128, 64, 64, 8, 3), (128, 32, 128, 8, 3)],
        100: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 3), (64, 32, 256, 8, 2)],
    },
    ("covariance", "half"): {
        80: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 2), (64, 64, 256, 8, 2)],
        86: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 2), (64, 32, 256, 8, 2)],
        90: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 3), (128, 32, 256, 8, 2)],
        100: [(128, 128, 64, 8, 3), (128, 64, 128, 8, 3), (64, 64, 256, 8, 2)],
    },
    ("covariance", "tf32"): {
        80: [(128, 32, 64, 8, 2)],
        90: [(128, 64, 64, 8, 2)],
        100: [(128, 64, 64, 8, 2)],
    },
    ("covariance", "tf32x3"): {
        80: [],
        90: [(128, 32, 64, 8, 2)],
        100: [(64, 32, 64, 8, 2)],
    },
    ("outputs", "half"): {
        80: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 2), (64, 64, 256, 8, 2)],
        90: [(64, 64, 64, 4, 3), (64, 64, 128, 4, 3), (64, 64, 256, 4, 2)],
        100: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 3), (64, 64, 256, 8, 2)],
    },
    ("outputs", "tf32"): {
        80: [(128, 32, 64, 8, 2)],
        90: [(128, 64, 64, 8, 2)],
        100: [(128, 64, 64, 8, 2)],
    },
    ("outputs", "tf32x3"): {
        80: [],
        90: [(128, 32, 64, 8, 2)],
        100: [(64, 32, 64, 8, 2)],
    },
    ("rank", "half"): {
        80: [(128, 128, 64, 8, 4)],
        90: [(128, 128, 64, 8, 4)],
        100: [(128, 128, 64, 8, 4)],
        120: [(64, 128, 64, 8, 3)],
    },
    ("rank", "tf32"): {
        80: [(128, 128, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
        120: [(128, 64, 32, 8, 3)],
    },
    ("rank", "tf32x3"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
        120: [(128, 32, 32, 8, 3)],
    },
    ("rank", "ieee"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(64, 64, 16, 8, 2)],
        100: [(64, 64, 16, 8, 2)],
    },
    ("weights", "half"): {
        80: [(128, 256, 64, 8, 3)],
        86: [(128, 128, 64, 8, 3)],
        90: [(128, 256, 64, 8, 3)],
        100: [(128, 256, 64, 8, 3)],
    },
    ("weights", "tf32"): {
        80: [(128, 128, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
    },
    ("weights", "tf32x3"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
    },
    ("weights", "ieee"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(64, 64, 16, 8, 2)],
        100: [(64, 32, 16, 8, 2)],
    },
    ("centred", "half"): {
        80: [(128, 64, 64, 8, 3)],
        90: [(128, 128, 64, 8, 3)],
        100: [(128, 128, 64, 8, 3)],
    },
    ("pulls", "half"): {
        80: [(128, 128, 64, 8, 3)],
        90: [(128, 128, 64, 8, 3)],
        100: [(128, 64, 64, 8, 3)],
    },
    ("centred", "tf32"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 64, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("pulls", "tf32"): {
        80: [(128, 128, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("centred", "tf32x3"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(128, 64, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("pulls", "tf32x3"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("centred", "ieee"): {
        80: [(64, 32, 16, 8, 2)],
        90: [(64, 32, 16, 8, 2)],
        100: [(64, 32, 16, 8, 2)],
    },
    ("pulls", "ieee"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(64, 64, 16, 8, 2)],
        100: [(64, 32, 16, 8, 2)],
    },
    ("accumulate", "half"): {
        80: [(128, 64, 128, 8, 3)],
        90: [(128, 64, 128, 8, 3)],
        100: [(128, 64, 128, 8, 3)],
    },
    ("accumulate", "tf32"): {
        80: [(128, 32, 128, 8, 3)],
        90: [(128, 32, 128, 8, 3)],
        100: [(128, 32, 128, 8, 3)],
    },
    ("accumulate", "tf32x3"): {
        80: [(128, 32, 64, 8, 2)],
        90: [(128, 32, 128, 8, 3)],
        100: [(128, 32, 128, 8, 3)],
    },
    ("accumulate", "ieee"): {
        80: [(64, 16, 64, 8, 3)],
        90: [(64, 16, 64, 8, 2)],
        100: [(64, 16, 64, 8, 2)],
    },
}


def kind_of(dtype: torch.dtype, precision: str) -> str:
    """The kind of a product of inputs in this dtype, which is not float64."""
    return precision if dtype == torch.float32 else "half"


def input_precision(kind: str) -> str:
    """Triton's name for it; half precision has only one way to be multiplied."""
    return "ieee" if kind == "half" else kind


def rows(family: str, kind: str, arch: int) -> list[_Row]:
    """Of the table, for ever larger d: the architecture's own rows, or those that it borrows."""
    return preset_of(TABLE.get((family, kind), {}), arch) or []


def find(family: str, kind: str, arch: int, dim: int, batch: int) -> Preset | None:
    """The preset for so many dimensions and queries; None if the family has none.

    Few queries in half precision, which would leave most of a tile empty, get a smaller one: such
    calls should take the time of reading the outputs once, not that of an empty product.
    """
    for row in rows(family, kind, arch):
        preset = Preset(*row)
        if dim <= preset.block_d or family in TILED:
            block_d = min(preset.block_d, max(16, 1 << (dim - 1).bit_length()))
            fitting = [size for size in smaller(kind, preset.block_b) if batch <= size]
            block_b = min(fitting, default=preset.block_b)
            return replace(preset, block_b=block_b, block_d=block_d)
    return None


def smaller(kind: str, block_b: int) -> list[int]:
    """Tiles below `block_b` queries that `find` gives to small batches."""
    return [size for size in FEW if kind == "half" and size < block_b]


def neighbours(preset: Preset) -> Iterator[Preset]:
    """The preset, then variations of its tile, its warps and its pipeline."""
    yield preset
    sizes = [(preset.block_b, preset.block_n), (preset.block_b, preset.block_n // 2)]
    sizes += [(preset.block_b, preset.block_n * 2), (preset.block_b // 2, preset.block_n)]
    for (rows, items), warps, stages in itertools.product(sizes, (4, 8), (2, 3, 4)):
        candidate = replace(preset, block_b=rows, block_n=items, num_warps=warps, num_stages=stages)
        if min(rows, items) >= 16 and candidate != preset:
            yield candidate
