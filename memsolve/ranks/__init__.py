"""One memory over several processes: rank 0 runs a study, the others compute their shares.

A batch's items are dealt out by stride: rank `r` of `R` computes items `r, r + R, ...`, so that
frequent and rare ones are spread evenly. Every operation of a memory is a sum over items or one
answer an item, so each rank calls the ordinary methods of `AssociativeMemory` with its share.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from memsolve_kernels.errors import InputError

TYPE_CHECKING = False  # the command imports this package before torch
if TYPE_CHECKING:
    from memsolve.ranks.memory import FirstRank

_current: "FirstRank | None" = None


def current() -> "FirstRank | None":
    """Rank 0's connection to the other ranks; None in a process that runs alone."""
    return _current


def on_this_machine() -> int:
    """The number of ranks on this machine; 1 for a process that runs alone."""
    return 1 if _current is None else int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def refuse_other_processes(option: str) -> None:
    """Refuse an option that runs optimizers in other processes, where this one is rank 0.

    Raises:
        InputError: names the option.
    """
    if _current is not None:
        raise InputError(
            f"{option} runs optimizers in other processes, but under torchrun rank 0 runs them "
            "itself; leave it out, or run without torchrun"
        )


@contextmanager
def connected(first_rank: "FirstRank") -> Iterator[None]:
    """Let studies share their memories with the other ranks within a context."""
    global _current
    previous, _current = _current, first_rank
    try:
        yield
    finally:
        _current = previous
