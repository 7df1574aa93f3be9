"""Run a function on several ranks of a process group, as `torchrun` does, for tests.

The ranks are forked from one server that has imported torch, so that starting them is cheap.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

from tests.fork_server import preload

TIMEOUT = 120
"""Seconds for one test's ranks; then they are ended, and the test fails."""

PRELOADED = "tests.ranks", "torch._dynamo", "torch.distributed.tensor", "memsolve.optim"

_processes = multiprocessing.get_context("forkserver")


def run_ranks(function: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """The values of a function on every rank, by rank.

    Args:
        function: of `arguments`, at the top level of a module; the default group exists (gloo).
        size: number of ranks.
        arguments: of the function; can be pickled, as can its value (tensors as numpy arrays).

    Raises:
        AssertionError: a rank raised, with its traceback; or ended, or took too long.
    """
    preload(PRELOADED)
    with TemporaryDirectory() as folder:
        ends = [_processes.Pipe(duplex=False) for _ in range(size)]
        ranks = [
            _processes.Process(
                target=_rank, args=(function, rank, size, folder, ends[rank][1], arguments)
            )
            for rank in range(size)
        ]
        try:
            for process, (_, there) in zip(ranks, ends, strict=True):
                process.start()
                there.close()
            return _receive([here for here, _ in ends])
        finally:
            for process in ranks:
                process.kill()
                process.join()


def _receive(ends: list[Connection]) -> list[Any]:
    """The values of all ranks; raises once one has failed, since the others may wait for it."""
    values: dict[int, Any] = {}
    while len(values) < len(ends):
        waiting = [end for rank, end in enumerate(ends) if rank not in values]
        ready = wait(waiting, TIMEOUT)
        assert ready, f"ranks {sorted(set(range(len(ends))) - set(values))} took too long"
        for rank, end in enumerate(ends):
            if end in ready:
                try:
                    error, values[rank] = end.recv()
                except EOFError:
                    raise AssertionError(f"rank {rank} ended") from None
                assert not error, f"rank {rank} of {len(ends)}:\n{error}"
    return [values[rank] for rank in range(len(ends))]


def _rank(
    function: Callable[..., Any],
    rank: int,
    size: int,
    folder: str,
    end: Connection,
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    dist.init_process_group(
        "gloo",
        init_method=(Path(folder) / "store").as_uri(),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=TIMEOUT),
    )
    try:
        end.send(("", function(*arguments)))
    except BaseException:
        end.send((traceback.format_exc(), None))
    finally:
        end.close()
        os._exit(0)  # without waiting for ranks that have failed
