"""Where a number comes from: versions and hardware."""

import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

Environment = dict[str, str | int]


def environment(device: str) -> Environment:
    """Versions and hardware that decide a result or a time, as JSON values; no host, no path.

    Args:
        device: as torch names it, "cpu" or "cuda:1".
    """
    where = torch.device(device)
    found: Environment = {
        "memsolve": version_of("memsolve"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": version_of("triton"),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else _cpu(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    if where.type == "cuda":
        found |= {"cpu": _cpu(), "driver": _driver(), "cuda": str(torch.version.cuda)}
    return found


def version_of(distribution: str) -> str:
    """The installed version of a distribution, or that there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "from source" if distribution == "memsolve" else "none"


@cache
def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.splitlines()[0].strip()


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    model = found[1].strip() if found else platform.processor() or "CPU"
    return f"{model}, {os.cpu_count()} cores"
