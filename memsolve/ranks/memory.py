"""A memory whose operations are shared out over ranks, as rank 0 sees it."""

import itertools
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from memsolve_kernels import Retrieval
from torch import Tensor

from memsolve.differentiable import loss_of_parts
from memsolve.environment import environment
from memsolve.faults import RankError
from memsolve.frequencies import Batch
from memsolve.memory_checks import check_batch, check_items
from memsolve.problem import AssociativeMemory, Curvature, GradientMoments
from memsolve.ranks.group import Group
from memsolve.ranks.operations import Arguments, Creation, Operation, check_device
from memsolve.recall import Recall


class FirstRank:
    """Rank 0's connection to the other ranks, which serve it (`memsolve.ranks.serve`).

    Args:
        group: of all ranks.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self._numbers = itertools.count()
        self._dropped: list[int] = []

    def memory(self, **arguments: Any) -> "SharedMemory":
        """A memory on every rank, made from arguments of `AssociativeMemory`.

        Raises:
            InputError: arguments, a device or versions that cannot be used.
            RankError: another rank failed.
        """
        check_device(torch.device(arguments["device"]), self.group.local_rank)
        number = next(self._numbers)
        creation = Creation(number, arguments, environment(arguments["device"]))
        with uninterrupted():
            self._send(creation)
            try:
                memory = creation.run(self.group)
            except Exception:
                self._dropped.append(number)
                raise
        shared = SharedMemory(memory, number, self)
        weakref.finalize(shared, self._dropped.append, number).atexit = False
        return shared

    def run(
        self, memory: AssociativeMemory, operation: Operation, arguments: Arguments
    ) -> list[Tensor]:
        """The results of an operation of a memory, of which this is rank 0's own.

        Raises:
            RankError: another rank failed.
        """
        tensors = arguments.tensors()  # before the others wait for them
        with uninterrupted():
            self._send(operation)
            for tensor in tensors:
                self.group.broadcast(tensor)
            return operation.run(self.group, memory, arguments)

    def end(self) -> None:
        """Let the other ranks end, if they have not."""
        with uninterrupted(), suppress(RankError):
            self.group.broadcast_object(None)

    def _send(self, request: Creation | Operation) -> None:
        """Send a request, with the numbers of memories that are no more in use."""
        dropped = [self._dropped.pop() for _ in range(len(self._dropped))]
        self.group.broadcast_object((request, dropped))


class SharedMemory(AssociativeMemory):
    """The memory of all ranks. Its operations are those of `AssociativeMemory`, on rank 0.

    A sum over items is added in the order of ranks, so that it repeats to the bit with the same
    number of ranks. Arguments are checked before anything is sent.

    Every rank holds its own embeddings, from the same seed. Rank 0 alone computes what is not
    overridden here: `output_covariance`, and what uses `inputs` and `outputs` themselves.

    Args:
        memory: rank 0's own.
        number: of the memory on the other ranks.
        first_rank: the connection to them.
    """

    def __init__(self, memory: AssociativeMemory, number: int, first_rank: FirstRank) -> None:
        vars(self).update(vars(memory))  # the same tables
        self._own, self._number, self._first_rank = memory, number, first_rank

    @cached_property
    def _population(self) -> Batch:
        return super().population()

    @cached_property
    def input_moment(self) -> Tensor:
        """(d, d) second moment of the input embeddings, `(1/N) sum_i u_i u_i^T`."""
        items, weights = self._population
        return self.curvature(Batch(items, torch.full_like(weights, 1 / self.num_items))).inputs

    def population(self) -> Batch:
        """All items with their frequencies; always the same object, which need not be sent."""
        return self._population

    def loss(self, weight: Tensor, batch: Batch) -> Tensor:
        """Loss of `weight` (d, d) on `batch`, a scalar; differentiable twice in `weight`."""
        if torch.is_grad_enabled() and weight.requires_grad:
            return loss_of_parts(self, weight, batch)
        return self._sum("loss", batch, weight=weight)[0]

    def loss_and_gradient(self, weight: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss, a scalar, and gradient, (d, d), in one pass; computed without autograd."""
        loss, gradient = self._sum("loss_and_gradient", batch, weight=weight)
        return loss, gradient

    def hvp(self, weight: Tensor, direction: Tensor, batch: Batch) -> Tensor:
        """The Hessian of the loss at `weight`, times `direction`; all (d, d). No autograd."""
        return self._sum("hvp", batch, weight=weight, direction=direction)[0]

    def gradient_at_zero(self, batch: Batch) -> Tensor:
        """Gradient (d, d) at `W = 0`, where the softmax is uniform, in closed form (derived)."""
        return self._sum("gradient_at_zero", batch)[0]

    def curvature(self, batch: Batch, weight: Tensor | None = None) -> Curvature:
        """The two factors of the Hessian at `W = 0` on `batch`; see `AssociativeMemory`."""
        matrices = {} if weight is None else {"weight": weight}
        return Curvature(self.output_covariance, self._sum("input_moment", batch, **matrices)[0])

    def gradient_moments(
        self, weight: Tensor | None = None, items: Tensor | None = None
    ) -> GradientMoments:
        """The moments of the gradient of an example; see `AssociativeMemory`."""
        matrices = {} if weight is None else {"weight": weight}
        return GradientMoments(*self._of_items("gradient_moments", items, **matrices))

    def retrieval(self, weight: Tensor, items: Tensor) -> Retrieval:
        """How `weight` (d, d) retrieves items (M,) int64: margins, ranks and losses, each (M,)."""
        return Retrieval(*self._of_items("retrieval", items, weight=weight))

    def recall(self, weight: Tensor, items: Tensor | None = None) -> Recall:
        """The items that `weight` (d, d) recovers; see `AssociativeMemory`."""
        check_items(self, self._items_or_all(items), {"weight": weight})
        distinct = None if items is None else torch.unique(items)
        (recovered,) = self._run("recall", Arguments(distinct, None, [weight]), weighted=False)
        return Recall(self._items_or_all(distinct), recovered)

    def _sum(self, name: str, batch: Batch, **matrices: Tensor) -> list[Tensor]:
        """Perform an operation of a batch."""
        check_batch(self, batch, **matrices)
        is_population = batch is self._population
        items, weights = (None, None) if is_population else batch
        return self._run(name, Arguments(items, weights, [*matrices.values()]), weighted=True)

    def _of_items(self, name: str, items: Tensor | None, **matrices: Tensor) -> list[Tensor]:
        """Perform an operation of items, default all."""
        check_items(self, self._items_or_all(items), matrices)
        return self._run(name, Arguments(items, None, [*matrices.values()]), weighted=False)

    def _run(self, name: str, arguments: Arguments, *, weighted: bool) -> list[Tensor]:
        items, _, matrices = arguments
        count = None if items is None else len(items)
        operation = Operation(self._number, name, count, weighted, len(matrices))
        return self._first_rank.run(self._own, operation, arguments)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Postpone an interrupt to the end of a context, so that no exchange remains unfinished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[tuple[Any, ...]] = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: interrupts.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupts and callable(handler):
            handler(*interrupts[0])
