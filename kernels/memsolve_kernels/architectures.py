"""Every fact about a GPU architecture that the kernels depend on: one row a compute capability."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

_KIB = 1024
_WARP = 32  # threads
_REGISTERS, _REGISTER_GRANULE = 65536, 256  # of an SM; allocation unit of a warp

Row = TypeVar("Row")


class Architecture(NamedTuple):
    """A GPU architecture that the Triton kernels are compiled for.

    Attributes:
        capability: CUDA's compute capability, (major, minor).
        preset_arch: the architecture, such as 90, whose launch configurations it uses.
            Architectures with equal tensor cores, registers and shared memory share them.
        shared_bytes: largest shared memory of a block, by NVIDIA's tables; an SM has 1 KiB more,
            and reserves 1 KiB for each block.
        threads: largest number of threads of an SM, by the same tables.
        products: multiply-adds per clock of an SM's tensor cores, in half precision; GeForce
            cards reach half of them with sums in float32.
        floats: float32 operations per clock of an SM.
        fast_float64: whether float64 has at least half the rate of float32, as on data-center GPUs.
    """

    capability: tuple[int, int]
    preset_arch: int
    shared_bytes: int
    threads: int
    products: int
    floats: int
    fast_float64: bool

    def blocks(self, registers: int, shared: int, warps: int) -> int:
        """Blocks that fit an SM, by registers of a thread, bytes and warps of a block."""
        of_a_warp = -(-registers * _WARP // _REGISTER_GRANULE) * _REGISTER_GRANULE
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

FALLBACK = {86: 80, 120: 86}
"""The architecture whose row of a preset table serves one without a row of its own: its tensor
cores make the same products, but it has less memory."""

COMPILED = {
    10 * row.capability[0] + row.capability[1]: row
    for row in TABLE
    if row.capability in {(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)}
}
"""The rows that tests compile for, by number, such as 90; the others differ by name only."""

INTERPRETED = COMPILED[80]
"""The oldest architecture, whose configurations Triton's interpreter takes on a CPU."""


def with_fallbacks(rows: Mapping[int, Row]) -> dict[int, Row]:
    """Rows of a preset table by architecture, completed by those of `FALLBACK`."""
    complete = dict(rows)
    for arch in sorted({row.preset_arch for row in TABLE}):  # a fallback is older
        if arch not in complete and FALLBACK.get(arch) in complete:
            complete[arch] = complete[FALLBACK[arch]]
    return complete
