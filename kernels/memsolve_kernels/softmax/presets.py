"""Launch configurations: one table, by family, kind of product, largest d, and architecture."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from memsolve_kernels.architectures import preset as preset_of

FEW = 16  # queries that get tiles of their own; a tensor core takes 16 at least
REGISTERS = 2**16  # of a processor, on every architecture
TILED = (
    "long_rank",
    "weights",
    "centred",
    "pulls",
    "accumulate",
)  # families that take any d in steps


@dataclass(frozen=True)
class Preset:
    """Sizes of a program's tile and what the compiler makes of it.

    Attributes:
        block_b: queries.
        block_n: items.
        block_d: dimensions.
        num_warps: warps of a program.
        num_stages: tiles in flight.
        together: programs that a processor holds at once, while some wait others multiply.
        lanes: how many maxima, sums and counts "rank" keeps of a row, one for each thread that
            holds some of its columns: on tensor cores four threads of a warp times the warps side
            by side along the items, on sm_100 (from 64 queries on) one thread. Another number is
            slower, not wrong; block_n is a multiple of 2 lanes.
    """

    block_b: int
    block_n: int
    block_d: int
    num_warps: int
    num_stages: int
    together: int = 1
    lanes: int = 1

    @property
    def registers(self) -> int | None:
        """Of a thread at most, so that as many programs fit; None if any number does.

        Where the compiler would spill to let in even more of them, the limit stops that too.
        """
        share = REGISTERS // (32 * self.num_warps * self.together) // 8 * 8
        return share if share < 256 else None


# block_b, block_n, block_d, num_warps, num_stages and, where not one, programs held together and
# lanes, by architecture; a row serves d up to block_d, and FEW queries have rows of their own.
#
# "odds" and "covariance" keep a weighted sum of block_d columns on chip, and "curvature" two; where
# d is larger than that, "odds" and "covariance" in turn take its place. "outputs" keeps a sum for
# each of block_b items, and walks queries by block_n. Where d is larger than they hold, "weights",
# "centred" or "pulls" fill a scratch and "accumulate" multiplies it, all walking any d in steps;
# their block_n must be a multiple of that of "accumulate". "rank" keeps its queries on chip, and
# "long_rank" walks d.
#
# On sm_90, rows in half precision are those that take the fewest cycles by prediction, of those
# tried (bench/NOTES.md); others have tiles like them, or the largest. None spills with the oldest
# or the newest Triton, and none has been timed on a GPU yet. Where an architecture has no rows it
# borrows (`architectures.BORROWED`).
_Row = (
    tuple[int, int, int, int, int]
    | tuple[int, int, int, int, int, int]
    | tuple[int, int, int, int, int, int, int]
)
TABLE: dict[tuple[str, str], dict[int, list[_Row]]] = {
    ("odds", "half"): {
        80: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 2, 2), (64, 64, 256, 8, 2)],
        90: [(64, 64, 64, 4, 3, 4), (64, 64, 128, 4, 3, 3), (64, 64, 256, 4, 2, 2)],
        100: [
            (64, 64, 64, 8, 3),
            (128, 64, 64, 8, 3),
            (64, 64, 128, 8, 3),
            (128, 64, 128, 8, 3),
            (64, 64, 256, 8, 2),
        ],
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
        80: [(64, 32, 64, 4, 3, 2), (64, 64, 128, 8, 2)],
        90: [(64, 64, 64, 4, 3, 2), (64, 32, 128, 4, 3, 2)],
        100: [
            (64, 64, 64, 8, 3),
            (128, 64, 64, 8, 3),
            (64, 64, 128, 8, 3),
            (128, 64, 128, 8, 3),
            (64, 32, 256, 8, 2),
        ],
    },
    ("covariance", "half"): {
        80: [(64, 64, 64, 4, 3, 2), (64, 64, 128, 4, 2, 2), (64, 64, 256, 8, 2)],
        86: [(64, 64, 64, 4, 3, 2), (64, 64, 128, 4, 2, 2), (64, 32, 256, 8, 2)],
        90: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 3, 2), (64, 32, 256, 4, 2, 2)],
        100: [
            (64, 128, 64, 8, 3),
            (128, 128, 64, 8, 3),
            (64, 64, 128, 8, 3),
            (128, 64, 128, 8, 3),
            (64, 64, 256, 8, 2),
        ],
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
        80: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 2, 2), (64, 64, 256, 8, 2)],
        90: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 3, 3), (64, 64, 256, 4, 2, 2)],
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
        80: [(64, 64, 64, 4, 3, 4, 8), (64, 64, 128, 4, 2, 3, 8), (64, 64, 256, 4, 2, 1, 8)],
        90: [(128, 64, 64, 8, 3, 3, 4), (128, 64, 128, 8, 2, 3, 4), (128, 32, 256, 8, 3, 2, 4)],
        100: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 3), (128, 64, 256, 8, 3)],
    },
    ("long_rank", "half"): {
        80: [(128, 128, 64, 8, 4)],
        90: [(128, 128, 64, 8, 4)],
        100: [(128, 128, 64, 8, 4)],
        120: [(64, 128, 64, 8, 3)],
    },
    ("long_rank", "tf32"): {
        80: [(128, 128, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
        120: [(128, 64, 32, 8, 3)],
    },
    ("long_rank", "tf32x3"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 64, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
        120: [(128, 32, 32, 8, 3)],
    },
    ("long_rank", "ieee"): {
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
        120: [(64, 32, 16, 8, 2)],
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
        90: [(128, 32, 256, 8, 3)],
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
        120: [(128, 32, 64, 8, 3)],
    },
    ("accumulate", "ieee"): {
        80: [(64, 16, 64, 8, 3)],
        90: [(64, 16, 64, 8, 2)],
        100: [(64, 16, 64, 8, 2)],
    },
}


# Tiles of FEW queries in half precision, on every architecture: only reading the outputs takes time
# there, and as many programs as fit keep loads in flight.
FEW_TABLE: dict[str, list[_Row]] = {
    "odds": [
        (16, 128, 64, 4, 3, 4),
        (16, 128, 128, 4, 3, 3),
        (16, 64, 256, 4, 3, 3),
        (16, 64, 512, 8, 2),
    ],
    "curvature": [(16, 128, 64, 4, 3, 3), (16, 128, 128, 4, 3, 2), (16, 64, 256, 4, 3, 2)],
    "covariance": [(16, 128, 64, 4, 3, 4), (16, 128, 128, 4, 3, 2), (16, 64, 256, 4, 3, 2)],
    "rank": [(16, 128, 64, 4, 3, 1, 16), (16, 128, 128, 4, 3, 1, 16), (16, 64, 256, 4, 3, 1, 16)],
    "long_rank": [(16, 128, 64, 4, 4)],
    "weights": [(16, 256, 64, 4, 3)],
    "centred": [(16, 128, 64, 4, 3)],
    "accumulate": [(16, 32, 128, 4, 3, 4)],
}


def kind_of(dtype: torch.dtype, precision: str) -> str:
    """The kind of a product of inputs in this dtype, which is not float64."""
    return precision if dtype == torch.float32 else "half"


def input_precision(kind: str) -> str:
    """Triton's name for it; half precision has only one way to be multiplied."""
    return "ieee" if kind == "half" else kind


def presets(family: str, kind: str, arch: int) -> list[Preset]:
    """Of the table: the architecture's own rows, or those that it borrows."""
    few = FEW_TABLE.get(family, []) if kind == "half" else []
    many = preset_of(TABLE.get((family, kind), {}), arch) or []
    return [Preset(*row) for row in (*few, *many)]


def find(family: str, kind: str, arch: int, dim: int, batch: int) -> Preset | None:
    """The preset for so many dimensions and queries; None if the family has none.

    Few queries, which would leave most of a tile empty, have rows of their own in half precision:
    such calls should take the time of reading the outputs once, not that of an empty product.
    """
    fitting = [
        preset
        for preset in presets(family, kind, arch)
        if (dim <= preset.block_d or family in TILED) and (batch <= FEW or preset.block_b > FEW)
    ]
    if not fitting:
        return None
    best = min(fitting, key=lambda preset: (preset.block_d, abs(preset.block_b - batch)))
    return replace(best, block_d=min(best.block_d, max(16, 1 << (dim - 1).bit_length())))


def neighbours(preset: Preset) -> Iterator[Preset]:
    """The preset, then variations of its tile, its warps and its pipeline."""
    yield preset
    sizes = [(preset.block_b, preset.block_n), (preset.block_b, preset.block_n // 2)]
    sizes += [(preset.block_b, preset.block_n * 2), (preset.block_b // 2, preset.block_n)]
    for (rows, items), warps, stages in itertools.product(sizes, (4, 8), (2, 3, 4)):
        tile = {"block_b": rows, "block_n": items, "num_warps": warps, "num_stages": stages}
        candidate = replace(preset, **tile, together=1)
        if min(rows, items) >= 16 and candidate != preset:
            yield candidate
