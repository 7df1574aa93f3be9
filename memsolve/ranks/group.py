"""What the ranks of a process group exchange."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from memsolve.faults import RankError, format_error, machine_error

RESUME = "what is measured is kept, and the study goes on with --resume"


class Slices(NamedTuple):
    """Buffers for a sum over ranks, made before the exchange, since memory may run out.

    Attributes:
        sent: (R, n), the numbers of this rank, cut into a slice for each rank.
        received: (R, n), this rank's slice of the numbers of every rank.
    """

    sent: Tensor
    received: Tensor


class Columns(NamedTuple):
    """Buffers for answers to shares, likewise.

    Attributes:
        sent: (n,), the answers to this rank's share, padded to those of the longest.
        received: (R, n), those of every rank, on rank 0; empty on the others.
        items: number of all items.
    """

    sent: Tensor
    received: Tensor
    items: int


class Group:
    """The ranks of torch's default process group. All of them call each method, in one order.

    Attributes:
        rank: of this process. Rank 0 decides what is computed, and gets the results.
        size: number of ranks `R`.
        local_rank: number of the process on its machine, and of its GPU.
        connected: False once another rank has ended.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        self.connected = True

    def share(self, values: Tensor) -> Tensor:
        """This rank's share of the values (M, ...) of all items; empty if `M` is at most `rank`."""
        return values[self.rank :: self.size]

    def broadcast_object(self, value: Any = None) -> Any:
        """The object of rank 0, pickled, on every rank."""
        values = [value]
        with self._connection():
            dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The tensor of rank 0, contiguous; the others give one to be overwritten."""
        with self._connection():
            dist.broadcast(tensor, 0)
        return tensor

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """Compute in a context, after which no rank goes on if one has failed.

        Raises:
            Exception: on rank 0, if it failed itself: its own error.
            RankError: on every other rank then; on all if another one failed, with its words.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        failed = torch.tensor(int(error is not None), device="cpu")
        with self._connection():
            dist.all_reduce(failed, dist.ReduceOp.MAX)
        if failed:
            self._raise(error)

    def _raise(self, error: Exception | None) -> None:
        words = [""] * self.size
        own = format_error(machine_error(error) or error) if error else ""
        with self._connection():
            dist.all_gather_object(words, own)
        if error is not None and self.rank == 0:
            raise error
        rank = next(rank for rank, text in enumerate(words) if text)
        raise RankError(f"rank {rank} failed: {words[rank]}; {RESUME}")

    def slices(self, numbers: Tensor) -> Slices:
        """The buffers for a sum over ranks of numbers (n,)."""
        length = -(-len(numbers) // self.size)
        sent = numbers.new_zeros(self.size, length)
        sent.view(-1)[: len(numbers)] = numbers
        return Slices(sent, torch.empty_like(sent))

    def sum(self, slices: Slices) -> Tensor:
        """The sum over ranks, added in their order; on rank 0, with the padding of the slices.

        Every rank adds one slice, so that rank 0 receives `2 n` numbers, however many ranks send.
        """
        sent, received = slices
        with self._connection():
            dist.all_to_all_single(received, sent)
            total = received[0]
            for part in received[1:]:
                total += part
            dist.gather(total, [*sent] if self.rank == 0 else None, 0)
        return sent.view(-1)

    def columns(self, answers: Tensor, items: int) -> Columns:
        """The buffers for the answers to all items, from those to this rank's share."""
        sent = answers.new_zeros(-(-items // self.size))
        sent[: len(answers)] = answers
        rows = self.size if self.rank == 0 else 0
        return Columns(sent, sent.new_empty(rows, len(sent)), items)

    def interleave(self, columns: Columns) -> Tensor:
        """The answers to all items, in their order; on rank 0."""
        sent, received, items = columns
        with self._connection():
            dist.gather(sent, [*received] if self.rank == 0 else None, 0)
        return received.T.reshape(-1)[:items]

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Raise the errors of a lost connection as RankError; nothing can be exchanged then."""
        ended = "another rank has ended, as where memory runs out: see the report of torchrun"
        if not self.connected:
            raise RankError(f"{ended}; {RESUME}")
        try:
            yield
        except RuntimeError as error:  # of gloo and NCCL
            self.connected = False
            raise RankError(f"{ended}; {RESUME}") from error
