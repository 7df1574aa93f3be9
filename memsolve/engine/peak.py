"""The memory that a study takes, stated before it starts."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

GIGABYTE = 1e9

STATED = 1e8
"""Bytes of a cell from which a command states its peak; less is little beside the process."""


@dataclass(frozen=True)
class Peak:
    """The memory of the largest cell of a grid, by count.

    Attributes:
        cell_bytes: that measuring the cell takes, besides the process.
        dim: `d` of the cell.
        num_items: `N` of the cell.
        device: on which it is measured, in the notation of torch.
    """

    cell_bytes: float
    dim: int
    num_items: int
    device: str

    def total(self, processes: int = 1) -> float:
        """Bytes that so many processes take on the device, each with a cell of this size.

        On a CPU a process takes what this one does at the moment of the call, besides its cell.
        """
        own = 0 if self._is_gpu else resident_bytes()
        return processes * (own + self.cell_bytes)

    def format(self, processes: int = 1) -> str:
        """One line: the total, its cell, and what to lower if more than there is."""
        total, left = self.total(processes), available_bytes(self.device)
        each = f"{processes} processes, each " if processes > 1 else ""
        cell = f"d = {self.dim}, N = {self.num_items}"
        line = f"memory: at most {total / GIGABYTE:.2f} GB ({each}{cell})"
        needed = total if self._is_gpu else total - resident_bytes()
        if left is None or needed <= left:
            return line
        return (
            f"{line}, but {left / GIGABYTE:.2f} GB are free: lower --num-items or --dims, or take "
            "--dtype float32"
        )

    @property
    def _is_gpu(self) -> bool:
        return torch.device(self.device).type != "cpu"


def resident_bytes() -> float:
    """What this process holds in memory; its peak so far, or 0, where the system says no more."""
    status = Path("/proc/self/status")
    if status.exists() and (match := re.search(r"VmRSS:\s*(\d+) kB", status.read_text())):
        return 1024.0 * int(match[1])
    if os.name != "posix":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def available_bytes(device: str) -> float | None:
    """The free memory of a device; None where that is not known."""
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return float(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if torch.device(device).type != "cpu" or not meminfo.exists():
        return None
    match = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text())
    return None if match is None else 1024.0 * int(match[1])
