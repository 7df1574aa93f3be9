"""Where a number comes from: versions and hardware."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

Environment = dict[str, str | int]


def environment(device: str) -> Environment:
    """Versions and hardware that decide a result, as JSON values; no time, no path."""
    return {
        "memsolve": _version("memsolve"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": _device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "from source"  # on PYTHONPATH, without an installation


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    model = found[1] if found else platform.processor() or "CPU"
    return f"{model}, {os.cpu_count()} cores"
