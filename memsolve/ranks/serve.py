"""What a process does as a rank: rank 0 runs a function, and the others serve it."""

from collections.abc import Callable
from typing import TypeVar

from memsolve.faults import RankError
from memsolve.problem import AssociativeMemory
from memsolve.ranks import connected
from memsolve.ranks.group import Group
from memsolve.ranks.memory import FirstRank
from memsolve.ranks.operations import Creation, Operation

T = TypeVar("T")


def run_or_serve(group: Group, function: Callable[[], T]) -> T | None:
    """Run a function on rank 0, while the other ranks serve it.

    Returns:
        The function's value on rank 0; None on the other ranks, once it has returned or raised.

    Raises:
        RankError: on another rank than 0: the connection is lost.
        Exception: on rank 0, what the function raises.
    """
    if group.rank > 0:
        serve(group)
        return None
    first_rank = FirstRank(group)
    try:
        with connected(first_rank):
            return function()
    finally:
        first_rank.end()


def serve(group: Group) -> None:
    """Compute shares of the operations that rank 0 requests, until it ends.

    Raises:
        RankError: the connection is lost.
    """
    memories: dict[int, AssociativeMemory] = {}
    while (message := group.broadcast_object()) is not None:
        request, dropped = message
        for number in dropped:
            memories.pop(number, None)
        try:
            _perform(group, memories, request)
        except RankError:  # of a rank, which rank 0 reports, or of the connection
            if not group.connected:
                raise


def _perform(
    group: Group, memories: dict[int, AssociativeMemory], request: Creation | Operation
) -> None:
    if isinstance(request, Creation):
        memories[request.memory] = request.run(group)
    else:
        memory = memories[request.memory]
        request.run(group, memory, request.receive(group, memory))
