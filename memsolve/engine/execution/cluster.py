"""Executors of Dask: processes of this machine, and the workers of a running scheduler."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

import torch
from memsolve_kernels.errors import InputError, RangeError

from memsolve.checks import is_int_between
from memsolve.engine.execution.dask_executor import DaskExecutor
from memsolve.engine.execution.interrupts import blocked_interrupts
from memsolve.engine.execution.task import close_context

log = logging.getLogger(__name__)

PRELOAD = "memsolve.engine.execution.dask_worker"
"""The module that every process imports before it is a worker."""

CONNECT = 10.0
"""Seconds in which a scheduler answers."""

MOST = 1024
"""Processes that one machine may run at most."""

WAIT = 5.0
"""Seconds between looks whether a scheduler has workers."""

METHOD = "forkserver" if os.name == "posix" else "spawn"
"""How processes start: where there is a fork, from a server that imports torch once for all."""

CONFIG: Mapping[str, Any] = {
    "distributed.worker.multiprocessing-method": METHOD,
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": {},  # see `_environment`
    "distributed.scheduler.allowed-failures": 1,  # a cell is then measured alone
    "distributed.scheduler.worker-ttl": None,  # a long step may hold the interpreter
    "distributed.deploy.lost-worker-timeout": "1 day",  # a worker restarts itself
    "distributed.admin.system-monitor.gil.enabled": False,
}
"""Dask's settings for processes of this machine."""

MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_ARENA_MAX": "1",  # a thread's own arena returns what it frees
}
"""Settings of glibc, by which a process keeps the memory of tensors for the next ones.

With Dask's own trim threshold of 64 KB six cells at d = 128 cause 250,000 page faults, with these
43,000, and take two thirds of the time (measured).
"""


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """An executor of so many processes on this machine, which end with this one, even if killed.

    Each has as many threads as this process. On GPUs each sees one of them, in turn.

    Raises:
        InputError: no such number, or Dask is not installed.
    """
    if not (is_int_between(jobs, 1) and jobs <= MOST):
        raise RangeError(f"--jobs is {jobs!r}; expected a whole number from 1 to {MOST}")
    dask, distributed = _import_dask()
    with dask.config.set(CONFIG), _environment(), ExitStack() as stack:
        context = distributed.utils.get_mp_context()
        if METHOD == "forkserver":
            context.set_forkserver_preload([PRELOAD])
            resource_tracker.ensure_running()  # it unblocks interrupts in the thread that starts it
        with blocked_interrupts():  # the threads of the cluster, and its processes
            cluster = distributed.SpecCluster(
                workers={job: _worker(distributed.Nanny, job) for job in range(jobs)},
                scheduler={
                    "cls": distributed.Scheduler,
                    "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
                },
                silence_logs=logging.CRITICAL,
            )
            stack.callback(_kill, cluster)  # an interrupt may come when the block ends
        client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        yield DaskExecutor(client)


@contextmanager
def scheduler(address: str) -> Iterator[Executor]:
    """An executor of the workers of a running Dask scheduler.

    While it has no workers, the study waits for the first, and a logged line says so.

    Args:
        address: as `tcp://host:8786`.

    Raises:
        InputError: there is no scheduler, or Dask is not installed.
    """
    _, distributed = _import_dask()
    try:
        with blocked_interrupts(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions are compared by the run
            client = distributed.Client(address, set_as_default=False, timeout=CONNECT)
    except (OSError, ValueError) as error:
        raise InputError(
            f"there is no Dask scheduler at {address} ({type(error).__name__}); start one by "
            "`dask scheduler`, which prints its address"
        ) from error
    with client, _watched(client, address):
        yield DaskExecutor(client)
        with suppress(Exception):  # it may have no workers any more
            client.run(close_context)


def _import_dask() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
        import distributed.utils
    except ImportError as error:
        raise InputError(
            "--jobs and --scheduler need Dask: pip install '.[cluster]' in a clone of memsolve"
        ) from error
    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith(("distributed", "tornado")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return dask, distributed


def _worker(cls: Any, job: int) -> dict[str, Any]:
    """The specification of a worker process."""
    options = {
        "nthreads": 1,
        "memory_limit": 0,  # Dask would end a process whose cell is large
        "preload": [PRELOAD],
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "env": _visible_gpu(job),
    }
    return {"cls": cls, "options": options}


def _visible_gpu(job: int) -> dict[str, str]:
    """The environment variable by which a process sees one of the GPUs; none without a GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        gpus = [str(gpu) for gpu in range(torch.cuda.device_count())]
    else:
        gpus = [gpu for gpu in visible.split(",") if gpu.strip()]
    return {"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if gpus else {}


@contextmanager
def _environment() -> Iterator[None]:
    """The environment variables with which worker processes start."""
    before = dict(os.environ)
    threads = str(torch.get_num_threads())
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    os.environ |= MEMORY | dict.fromkeys(libraries, threads)
    os.environ["PYTHONSAFEPATH"] = "1"  # no module of the current folder replaces a package
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _kill(cluster: Any) -> None:
    """End the worker processes at once, whatever they do, and the cluster."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # and start no process again
        if nanny.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, 9)
    cluster.close()


@contextmanager
def _watched(client: Any, address: str) -> Iterator[None]:
    """Log a line when a scheduler has no workers."""
    ended = threading.Event()

    def watch() -> None:
        waiting = False
        while not ended.wait(WAIT):
            with suppress(Exception):  # an end of the scheduler is reported elsewhere
                if not client.nthreads() and not waiting:
                    log.warning(
                        "%s has no workers; the study waits for one: dask worker %s --nthreads 1",
                        *(address, address),
                    )
                waiting = not client.nthreads()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
