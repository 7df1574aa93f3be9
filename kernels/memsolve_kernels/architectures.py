"""Every fact about a GPU architecture that the kernels depend on: one row a compute capability."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import torch

_KIB = 1024
_WARP = 32  # threads
_REGISTERS, _GRANULE = 65536, 256  # of a processor; how many a warp gets at a time

Row = TypeVar("Row")


class Architecture(NamedTuple):
    """A GPU that the Triton kernels are compiled for.

    Attributes:
        capability: CUDA's compute capability, (major, minor).
        presets: whose launch configurations it takes, as 90; see `BORROWED`. What has the same
            tensor cores, registers and shared memory shares them.
        shared_bytes: shared memory of a block at most, by NVIDIA's tables; a processor has 1 KiB
            more, and keeps 1 KiB a block for itself.
        threads: of a processor at most, by the same tables.
        products: multiply-adds of a processor and clock on tensor cores, in half precision; GeForce
            cards make half of them with sums in float32.
        floats: float32 operations of a processor and clock.
        fast_float64: half the rate of float32 or better, as on the GPUs of data centers.
    """

    capability: tuple[int, int]
    presets: int
    shared_bytes: int
    threads: int
    products: int
    floats: int
    fast_float64: bool

    def blocks(self, registers: int, shared: int, warps: int) -> int:
        """Blocks that fit a processor, by registers of a thread, bytes and warps of a block."""
        of_a_warp = -(-registers * _WARP // _GRANULE) * _GRANULE
        by_registers = _REGISTERS // (of_a_warp * warps)
        by_memory = (self.shared_bytes + _KIB) // (shared + _KIB)
        return min(by_registers, by_memory, self.threads // (_WARP * warps))


TABLE = (
    Architecture((8, 0), 80, 163 * _KIB, 2048, 1024, 64, fast_float64=True),  # A100
    Architecture((8, 6), 86, 99 * _KIB, 1536, 512, 128, fast_float64=False),  # RTX 30, A10, A40
    Architecture((8, 7), 80, 163 * _KIB, 1536, 1024, 128, fast_float64=False),  # Jetson Orin
    Architecture((8, 9), 86, 99 * _KIB, 1536, 512, 128, fast_float64=False),  # RTX 40, L4, L40
    Architecture((9, 0), 90, 227 * _KIB, 2048, 2048, 128, fast_float64=True),  # H100, H200
    Architecture((10, 0), 100, 227 * _KIB, 2048, 4096, 128, fast_float64=True),  # B200
    Architecture((10, 3), 100, 227 * _KIB, 2048, 4096, 128, fast_float64=False),  # B300
    Architecture((12, 0), 120, 99 * _KIB, 1536, 512, 128, fast_float64=False),  # RTX 50, RTX PRO
    Architecture((12, 1), 120, 99 * _KIB, 1536, 512, 128, fast_float64=False),  # GB10
)

BORROWED = {86: 80, 120: 86}
"""Whose row serves where a table of presets has none: same tensor-core products, less memory."""

COMPILED = {
    10 * row.capability[0] + row.capability[1]: row
    for row in TABLE
    if row.capability in {(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)}
}
"""By number, as 90, what is checked by compilation; the other rows differ by name only."""

INTERPRETED = COMPILED[80]
"""Whose configurations Triton's interpreter takes on a CPU: those of the oldest."""


def preset(rows: Mapping[int, Row], arch: int) -> Row | None:
    """The row of a table of presets for an architecture's `presets`, its own or a borrowed one."""
    while arch not in rows and arch in BORROWED:
        arch = BORROWED[arch]
    return rows.get(arch)


def architecture(device: torch.device) -> Architecture | None:
    """The row of a device; None if no row fits it, as of an older GPU, or one of AMD."""
    if device.type != "cuda":
        return INTERPRETED
    if torch.version.hip is not None:  # ROCm's capabilities are numbers of another table
        return None
    capability = torch.cuda.get_device_capability(device)
    return next((row for row in TABLE if row.capability == capability), None)
