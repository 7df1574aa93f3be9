"""Launch configurations, and sizes from which kernels replace BLAS, by product and architecture.

Every tile compiles without spilling; none has been timed on a GPU yet. Large products are bound by
a tile's reads from the L2 cache: for a depth of 64 in half precision 128 (rows + columns) bytes, at
about 32 per clock and SM, against rows * columns * 64 multiply-adds. On sm_90 a tile of 128 x 128
can reach 50% of the tensor cores' peak, one of 128 x 256 67%; on sm_100, with twice the peak, 25
and 33%. cuBLAS reaches about 80%, so that the symmetric product, which is half the work, needs more
than 40%, and full waves of tiles: from 4096 rows on sm_90, never on sm_100. The update saves no
work, and is left to cuBLAS. On other architectures sizes follow published symmetric kernels, which
lose to cuBLAS up to 1024 and win by 1.3 to 1.5 from 4096. `tuning()` replaces all this by
measurements on the device.
"""

import sys
from functools import cache
from typing import Literal, NamedTuple

import torch

from memsolve_kernels.architectures import with_fallbacks
from memsolve_kernels.dispatch import Precision

Kind = Literal["half", "tf32", "tf32x3", "ieee"]
ALWAYS, NEVER = 0, sys.maxsize


class TileConfig(NamedTuple):
    """The tile of a program, and how it is compiled.

    Attributes:
        rows: of the result.
        columns: of the result; of a symmetric one a multiple of the rows.
        depth: elements of the inner dimension that are loaded at once.
        group: rows of tiles that run concurrently, so that they share operands in the cache.
        warps: warps of a program.
        stages: loads in flight.
    """

    rows: int
    columns: int
    depth: int
    group: int
    warps: int
    stages: int


class ProductPolicy(NamedTuple):
    """Tiles and thresholds for one kind of product on one architecture.

    Attributes:
        symmetric: tile of the symmetric product.
        update: tile of the update.
        symmetric_from: smallest number of rows `m` at which its kernel replaces BLAS.
        update_from: the same for the update.
        batched_to: largest side, a power of two, of matrices that make all steps in one launch.
    """

    symmetric: TileConfig
    update: TileConfig
    symmetric_from: int
    update_from: int
    batched_to: int


_SQUARE, _WIDE = (TileConfig(128, columns, 64, 8, warps=8, stages=3) for columns in (128, 256))
_SMALL = TileConfig(64, 64, 32, 8, warps=4, stages=3)
_TF32 = (TileConfig(128, 128, 32, 8, warps=8, stages=3),) * 2
_IEEE = (TileConfig(64, 64, 16, 8, warps=8, stages=3),) * 2

_ROWS: dict[Kind, dict[int, ProductPolicy]] = {
    "half": {
        80: ProductPolicy(_SQUARE._replace(stages=4), _WIDE, 2048, NEVER, 64),
        90: ProductPolicy(_WIDE, _WIDE, 4096, NEVER, 128),
        100: ProductPolicy(_SQUARE._replace(stages=4), _SQUARE, NEVER, NEVER, 64),
    },
    "tf32": {
        80: ProductPolicy(*_TF32, ALWAYS, ALWAYS, 64),
        90: ProductPolicy(*_TF32, ALWAYS, ALWAYS, 64),
        100: ProductPolicy(*_TF32, ALWAYS, ALWAYS, 64),
    },
    "tf32x3": {
        80: ProductPolicy(_SMALL, _TF32[1], ALWAYS, ALWAYS, 32),
        90: ProductPolicy(*_TF32, ALWAYS, ALWAYS, 64),
        100: ProductPolicy(*_TF32, ALWAYS, ALWAYS, 32),
        120: ProductPolicy(_SMALL._replace(stages=2), _TF32[1], ALWAYS, ALWAYS, 32),
    },
    "ieee": {
        80: ProductPolicy(*_IEEE, NEVER, NEVER, 32),
        90: ProductPolicy(*_IEEE, NEVER, NEVER, 32),
        100: ProductPolicy(*_IEEE, NEVER, NEVER, 32),
    },
}


TABLE = {kind: with_fallbacks(rows) for kind, rows in _ROWS.items()}
"""By kind of product and architecture."""


@cache
def select_policy(
    dtype: torch.dtype, precision: Precision | None, arch: int
) -> tuple[ProductPolicy, Precision]:
    """The policy for products in a dtype, and Triton's `input_precision` of them."""
    kind = kind_of(dtype, precision)
    return TABLE[kind][arch], input_precision(kind)


def kind_of(dtype: torch.dtype, precision: Precision | None) -> Kind:
    """The kind of a product in this dtype, which is not float64; float32 is `tf32x3` by default."""
    return precision or "tf32x3" if dtype == torch.float32 else "half"


def input_precision(kind: Kind) -> Precision:
    """Triton's name of the kind; half precision has only one."""
    return "ieee" if kind == "half" else kind
