"""Launch configurations: one table, by family, kind of product, largest d, and architecture."""

from dataclasses import dataclass, replace
from typing import Any

TILED = ("rank", "weights", "centred", "accumulate")  # families that take any d in steps


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

    @property
    def options(self) -> dict[str, Any]:
        """What Triton takes at launch beside the kernel's arguments."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
        }


# Columns: block_b, block_n, block_d, num_warps, num_stages; a row serves d up to its own.
# "odds" and "covariance" keep a weighted sum of block_d columns on chip; where d is larger, or the
# row is missing, "weights" or "centred" fill a scratch and "accumulate" multiplies it.
_TABLE: dict[tuple[str, str], dict[int, list[tuple[int, int, int, int, int]]]] = {
    ("odds", "half"): {
        80: [(128, 64, 128, 8, 3)],
        90: [(128, 64, 64, 4, 3), (128, 64, 128, 8, 3), (128, 64, 256, 8, 2)],
        100: [(128, 64, 64, 4, 3), (128, 64, 128, 8, 3)],
    },
    ("covariance", "half"): {
        80: [(128, 64, 64, 8, 3)],
        90: [(128, 64, 64, 8, 3)],
        100: [(128, 64, 64, 8, 3)],
    },
    ("rank", "half"): {
        80: [(128, 128, 64, 8, 3)],
        90: [(128, 128, 64, 8, 3)],
        100: [(128, 128, 64, 8, 3)],
    },
    ("weights", "half"): {
        80: [(128, 128, 64, 8, 3)],
        90: [(128, 128, 64, 8, 3)],
        100: [(128, 128, 64, 8, 3)],
    },
    ("centred", "half"): {
        80: [(128, 64, 64, 8, 3)],
        90: [(128, 64, 64, 8, 3)],
        100: [(128, 64, 64, 8, 3)],
    },
    ("accumulate", "half"): {
        80: [(128, 64, 128, 8, 3)],
        90: [(128, 64, 128, 8, 3)],
        100: [(128, 64, 128, 8, 3)],
    },
    ("rank", "tf32"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("weights", "tf32"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("centred", "tf32"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("accumulate", "tf32"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("rank", "tf32x3"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("weights", "tf32x3"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("centred", "tf32x3"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("accumulate", "tf32x3"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("rank", "ieee"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("weights", "ieee"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("centred", "ieee"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
    ("accumulate", "ieee"): {
        80: [(64, 32, 32, 4, 2)],
        90: [(64, 32, 32, 4, 2)],
        100: [(64, 32, 32, 4, 2)],
    },
}


def find(family: str, kind: str, arch: int, dim: int) -> Preset | None:
    """The preset that serves `dim`, with `block_d` cut to it; None if the family does not."""
    for row in _TABLE.get((family, kind), {}).get(arch, []):
        preset = Preset(*row)
        if dim <= preset.block_d or family in TILED:
            return replace(
                preset, block_d=min(preset.block_d, max(16, 1 << (dim - 1).bit_length()))
            )
    return None
