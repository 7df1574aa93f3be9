"""Launch configurations, and who multiplies what: one table, by kind of product and architecture.

Every tile compiles without spilling; none has been timed on a GPU yet. Large products are bound by
what a tile reads from the L2 cache: for 64 of depth in half precision 128 (rows + columns) bytes,
at about 32 a clock and processor, against rows * columns * 64 multiply-adds. On sm_90 a tile of
128 x 128 can reach 50% of the tensor cores' peak, one of 128 x 256 67%; on sm_100, with twice the
peak, 25 and 33%. cuBLAS reaches about 80%, so that the symmetric product, which is half the work,
needs more than 40%, and full rounds of tiles: from 4096 rows on sm_90, never on sm_100. The update
saves no work, and is cuBLAS's. Elsewhere sizes follow published symmetric kernels, which lose to
cuBLAS up to 1024 and win by 1.3 to 1.5 from 4096. `tuning()` replaces all this by what a device
really does.
"""

import sys
from typing import Literal, NamedTuple

import torch

from memsolve_kernels import architectures
from memsolve_kernels.dispatch import Precision

Kind = Literal["half", "tf32", "tf32x3", "ieee"]
ALWAYS, NEVER = 0, sys.maxsize


class Tile(NamedTuple):
    """What a program computes, and what the compiler makes of it.

    Attributes:
        rows: of the result.
        columns: of the result; of a symmetric one a multiple of the rows.
        depth: how much of the inner dimension is loaded at once.
        group: rows of tiles that are walked together, so that they share operands in the cache.
        warps: warps of a program.
        stages: loads in flight.
    """

    rows: int
    columns: int
    depth: int
    group: int
    warps: int
    stages: int


class Preset(NamedTuple):
    """The choices for one kind of product on one architecture.

    Attributes:
        symmetric: tile of the symmetric product.
        update: tile of the update.
        symmetric_from: smallest number of rows `m` at which its kernel replaces BLAS.
        update_from: the same for the update.
        batched_to: largest side, a power of two, of matrices that one launch takes through all
            steps.
    """

    symmetric: Tile
    update: Tile
    symmetric_from: int
    update_from: int
    batched_to: int


_SQUARE, _WIDE = (Tile(128, columns, 64, 8, warps=8, stages=3) for columns in (128, 256))
_TF32 = Tile(128, 128, 32, 8, warps=8, stages=3), Tile(128, 128, 32, 8, warps=8, stages=3)
_IEEE = Tile(64, 64, 16, 8, warps=8, stages=3), Tile(64, 64, 16, 8, warps=8, stages=3)

TABLE: dict[Kind, dict[int, Preset]] = {
    "half": {
        80: Preset(_SQUARE._replace(stages=4), _WIDE, 2048, NEVER, 64),
        90: Preset(_WIDE, _WIDE, 4096, NEVER, 128),
        100: Preset(_SQUARE._replace(stages=4), _SQUARE, NEVER, NEVER, 64),
    },
    "tf32": {
        80: Preset(*_TF32, ALWAYS, ALWAYS, 64),
        90: Preset(*_TF32, ALWAYS, ALWAYS, 64),
        100: Preset(*_TF32, ALWAYS, ALWAYS, 64),
    },
    "tf32x3": {
        80: Preset(Tile(64, 64, 32, 8, warps=4, stages=3), _TF32[1], ALWAYS, ALWAYS, 32),
        90: Preset(*_TF32, ALWAYS, ALWAYS, 64),
        100: Preset(*_TF32, ALWAYS, ALWAYS, 32),
        120: Preset(Tile(64, 64, 32, 8, warps=4, stages=2), _TF32[1], ALWAYS, ALWAYS, 32),
    },
    "ieee": {
        80: Preset(*_IEEE, NEVER, NEVER, 32),
        90: Preset(*_IEEE, NEVER, NEVER, 32),
        100: Preset(*_IEEE, NEVER, NEVER, 32),
    },
}


def find(kind: Kind, arch: int) -> Preset:
    """The architecture's own preset, or the one that it borrows."""
    found = architectures.preset(TABLE[kind], arch)
    assert found is not None, f"no preset for {kind}, sm_{arch}"
    return found


def kind_of(dtype: torch.dtype, precision: Precision | None) -> Kind:
    """The kind of a product in this dtype, which is not float64; float32 is `tf32x3` by default."""
    return precision or "tf32x3" if dtype == torch.float32 else "half"


def input_precision(kind: Kind) -> Precision:
    """Triton's name for it; half precision has only one way to be multiplied."""
    return "ieee" if kind == "half" else kind
