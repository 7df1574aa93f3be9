"""Starting under torchrun: the process group, and the end of all ranks."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from memsolve.faults import format_error
from memsolve.ranks.group import RESUME, Group
from memsolve.ranks.serve import run_or_serve
from memsolve.startup import number_of_ranks

NEVER = timedelta(days=365)
"""Ranks wait while rank 0 computes alone; torchrun ends them if another one ends."""

GRACE = 1.0
"""Seconds that rank 0 has to report an error of its own, after torchrun has told it to end."""

FAILED = 1
"""Exit status of a rank that has failed, or lost the connection to rank 0."""

T = TypeVar("T")


def run_on_first_rank(function: Callable[[], T]) -> T | None:
    """Run a function on rank 0 of a launch by torchrun, while the other ranks serve it.

    Studies that it runs share their memories. Without torchrun it is called.

    Returns:
        The function's value; on other ranks None, once it has ended.

    Raises:
        SystemExit: on another rank than 0, which has failed, or lost the connection.
        Exception: what the function raises.
    """
    if number_of_ranks() == 1:
        return function()
    _take_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "cpu:gloo"
    dist.init_process_group(backend, timeout=NEVER)
    group = Group()
    if group.rank == 0:
        _report_termination()
    try:
        return run_or_serve(group, function)
    except Exception as error:
        if group.rank == 0:
            raise
        if group.connected:  # else rank 0 says why, or torchrun that rank 0 has ended
            _print(f"rank {group.rank} failed: {format_error(error)}")
        raise SystemExit(FAILED) from error
    finally:
        if group.connected:  # else it might wait
            dist.destroy_process_group()


def _take_device(local_rank: int) -> None:
    """Make the rank's own GPU the current one, if there is one."""
    if torch.cuda.is_available() and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)


def _report_termination() -> None:
    """End this process at SIGTERM with a line of words, whatever it computes meanwhile.

    torchrun sends this signal where another rank has ended. Python runs a handler only between
    operations of torch, so a thread is woken in its place.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer)

    def wait() -> None:
        while os.read(reader, 1) != bytes([signal.SIGTERM]):
            pass
        time.sleep(GRACE)
        _print(f"ended by SIGTERM, which torchrun sends where another rank has ended; {RESUME}")
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _print(message: str) -> None:
    """Print an error in one line."""
    with suppress(OSError):  # the terminal may be gone
        print(f"memsolve: error: {message}", file=sys.stderr, flush=True)
