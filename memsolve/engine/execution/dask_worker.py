"""What a process imports and sets before it is a worker of Dask's."""

import os
import signal
import sys
from typing import Any

import torch

from memsolve import study as _study  # noqa: F401 - imported once, in the server of the processes
from memsolve.engine.execution import task as _task  # noqa: F401

STDOUT, STDERR = 1, 2

torch.optim.SGD([torch.zeros(1)], lr=0.0)  # imports the rest of torch, which takes seconds


def dask_setup(_: Any) -> None:
    """Leave interrupts and standard output to the process of the user; called by Dask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    os.dup2(STDERR, STDOUT)  # output of optimizers is no result
