"""Which machine and versions a number belongs to; `python -m bench.machine` prints its name."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

Machine = dict[str, str | int]


def machine(device: str) -> Machine:
    """Hardware and versions that decide a time, as JSON values; no host name, no path."""
    found: Machine = {
        "device": _gpu() if device == "cuda" else _cpu(),
        "driver": _driver() if device == "cuda" else "none",
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
    }
    if device == "cuda":
        found["cuda"] = str(torch.version.cuda)
    return found


def name(device: str) -> str:
    """The machine in a word of letters, digits and dashes: for asv, which has no field for a GPU.

    On a GPU it is made of GPU, driver and versions, because each of them moves its times.
    """
    here = machine(device)
    parts = ["device", "torch", "triton"]
    if device == "cuda":
        parts = ["device", "driver", "cuda", "torch", "triton"]
    label = " ".join(f"{'' if part == 'device' else part} {here[part]}" for part in parts)
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _gpu() -> str:
    return torch.cuda.get_device_name()


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


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    print(name(default_device()))
