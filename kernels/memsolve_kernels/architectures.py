"""Every fact about a GPU architecture that the kernels depend on: one row a compute capability."""

from typing import NamedTuple

import torch

_KIB = 1024


class Architecture(NamedTuple):
    """A GPU that the Triton kernels are compiled for.

    Attributes:
        capability: CUDA's compute capability, (major, minor).
        presets: whose launch configurations it takes, as in `sm_90`: an architecture with the same
            limits shares them.
        shared_bytes: shared memory of a block at most, by NVIDIA's table.
        fast_float64: half the rate of float32 or better, as on the GPUs of data centers.
    """

    capability: tuple[int, int]
    presets: int
    shared_bytes: int
    fast_float64: bool


TABLE = (
    Architecture((8, 0), 80, 163 * _KIB, fast_float64=True),
    Architecture((8, 7), 80, 163 * _KIB, fast_float64=False),
    Architecture((9, 0), 90, 227 * _KIB, fast_float64=True),
    Architecture((10, 0), 100, 227 * _KIB, fast_float64=True),
    Architecture((10, 3), 100, 227 * _KIB, fast_float64=False),
)

COMPILED = {row.presets: row for row in TABLE if divmod(row.presets, 10) == row.capability}
"""By number, as 90, the architectures with presets of their own: what is checked by compilation."""

INTERPRETED = COMPILED[min(COMPILED)]
"""Whose configurations Triton's interpreter takes on a CPU: those with the smallest tiles."""


def architecture(device: torch.device) -> Architecture | None:
    """The row of a device; None if no row fits it, as of a GPU with less shared memory."""
    if device.type != "cuda":
        return INTERPRETED
    capability = torch.cuda.get_device_capability(device)
    return next((row for row in TABLE if row.capability == capability), None)
