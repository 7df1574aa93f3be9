"""The environment of a result: versions and hardware."""

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import torch

from memsolve import ranks
from memsolve.version import version_of

Environment = dict[str, str | int]


def environment(device: str) -> Environment:
    """Versions and hardware that affect a result or a time, as JSON values; no host, no path.

    Args:
        device: in the notation of torch, "cpu" or "cuda:1".
    """
    torch_device = torch.device(device)
    is_cuda = torch_device.type == "cuda"
    values: Environment = {
        "memsolve": version_of("memsolve"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": version_of("triton"),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(torch_device) if is_cuda else _cpu(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    if (first_rank := ranks.current()) is not None:
        values["ranks"] = first_rank.group.size  # which decides how sums are rounded
    if is_cuda:
        values |= {"cpu": _cpu(), "driver": _driver(), "cuda": str(torch.version.cuda)}
    return values


@cache
def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return process.stdout.splitlines()[0].strip()


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    model = match[1].strip() if match else platform.processor() or "CPU"
    return f"{model}, {os.cpu_count()} cores"
