"""Settings of the process that an optimizer may change, restored after each call.

Not restored: environment variables, `sys.path` and `sys.modules`, patched modules,
`torch.set_flush_denormal`, signal handlers other than that of interrupts, threads, and files.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import torch


class Setting(NamedTuple):
    """A setting that can be read and restored."""

    get: Callable[[], Any]
    put: Callable[[Any], object]


def _put_device(device: torch.device) -> None:
    """The default device; without any, torch adds nothing to each call for the CPU."""
    torch.set_default_device(None if device.type == "cpu" else device)


def _put_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


def _put_interrupts(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGINT, handler)


NUMERICAL: dict[str, Setting] = {
    "dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "device": Setting(torch.get_default_device, _put_device),
    "grad": Setting(torch.is_grad_enabled, lambda on: torch.set_grad_enabled(on)),
    "threads": Setting(torch.get_num_threads, torch.set_num_threads),
    "deterministic": Setting(
        torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    ),
    "products": Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "benchmark": Setting(
        lambda: torch.backends.cudnn.benchmark,
        lambda on: setattr(torch.backends.cudnn, "benchmark", on),
    ),
    "anomalies": Setting(
        torch.is_anomaly_enabled, lambda on: torch.autograd.set_detect_anomaly(on)
    ),
    "numpy": Setting(np.geterr, lambda errors: np.seterr(**errors)),
}
"""Those that can change numbers; their values can be sent to another process."""

LOCAL: dict[str, Setting] = {
    "folder": Setting(os.getcwd, os.chdir),
    "streams": Setting(lambda: (sys.stdout, sys.stderr), _put_streams),
    "interrupts": Setting(lambda: signal.getsignal(signal.SIGINT), _put_interrupts),
    "recursion": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
}


def numerical() -> dict[str, Any]:
    """Values of the settings that can change numbers."""
    return {name: setting.get() for name, setting in NUMERICAL.items()}


def put(values: Mapping[str, Any]) -> None:
    """Restore settings that have changed."""
    for name, value in values.items():
        setting = (NUMERICAL | LOCAL)[name]
        if _get(setting) != value:
            setting.put(value)


@contextmanager
def restored() -> Iterator[None]:
    """Restore all settings on leaving the context."""
    before = {name: _get(setting) for name, setting in (NUMERICAL | LOCAL).items()}
    with warnings.catch_warnings():
        try:
            yield
        finally:
            put(before)


def _get(setting: Setting) -> Any:
    with suppress(OSError):  # of a folder that is no more
        return setting.get()
