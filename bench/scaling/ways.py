"""The ways to share one computation over GPUs: flops and bytes of a step (derived).

A `Way` gives the work of a step as a function of the number of GPUs `R`. What it exchanges is
counted as the code of memsolve calls `torch.distributed`; a test compares.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from bench.scaling import hardware

ITEMS_PER_DIM = 64
"""Facts of a memory, `N = 64 d`, as in the studies of training."""

SIGN_FLOPS = 30
"""Of the sign of a (d, d) matrix, in `d^3`: five steps of three products, as Muon's default."""

FLOAT32, BFLOAT16 = 4, 2
"""Bytes of a number."""

MOST_GPUS = 1 << 12
"""Where the search for the limit of a way ends: a power of two."""


class Exchange(NamedTuple):
    """A collective call.

    Attributes:
        kind: name of the collective.
        size: bytes of the tensor that is broadcast, reduced, or sent by a rank in slices; of a
            gather, those of all ranks together.
    """

    kind: Literal["broadcast", "all_reduce", "all_to_all", "gather", "all_gather"]
    size: float

    def passing(self, gpus: int) -> float:
        """Bytes that the busiest GPU sends or receives, whichever is more."""
        if self.kind == "broadcast":  # in a pipeline
            return self.size if gpus > 1 else 0.0
        return (2 if self.kind == "all_reduce" else 1) * self.size * (gpus - 1) / gpus


class Work(NamedTuple):
    """A step of `R` GPUs.

    Attributes:
        shared: seconds of one GPU for what the GPUs share.
        alone: seconds for what rank 0 does alone.
        exchanges: collective calls, one after the other.
    """

    shared: float
    alone: float
    exchanges: Sequence[Exchange]

    def parts(self, gpus: int) -> dict[str, float]:
        """Seconds of a step, by what takes them."""
        calls = len(self.exchanges) if gpus > 1 else 0
        return {
            "computing": self.shared / gpus,
            "rank 0": self.alone,
            "bytes": self.passing(gpus) / hardware.bandwidth(gpus),
            "calls": calls * hardware.CALL,
        }

    def passing(self, gpus: int) -> float:
        """Bytes through the busiest GPU."""
        return sum(each.passing(gpus) for each in self.exchanges)


WORD = 8
"""Bytes of an integer, by which ranks agree that none has failed."""

AGREEMENT = Exchange("all_reduce", WORD)
ARGUMENTS = 10 * WORD
"""Bytes that describe a rank's arguments of a kernel, which the ranks compare."""

REQUEST = [Exchange("broadcast", WORD), Exchange("broadcast", 1 << 9), AGREEMENT]
"""What goes with an operation of a memory: its length, the operation, and the agreement."""

Way = Callable[[int], Work]
"""The work of a step, given the number of GPUs."""


def seconds(way: Way, gpus: int) -> float:
    """The duration of a step."""
    return sum(way(gpus).parts(gpus).values())


def efficiency(way: Way, gpus: int) -> float:
    """The time of one GPU over the total time of all."""
    return seconds(way, 1) / (gpus * seconds(way, gpus))


def limit(way: Way, least: float = 0.5) -> tuple[int, str]:
    """The largest power of two of GPUs with at least this efficiency, and what takes most beyond.

    That is the largest part but computing, of a step of twice as many GPUs.
    """
    powers = [1 << power for power in range(MOST_GPUS.bit_length())]
    gpus = max(each for each in powers if efficiency(way, each) >= least)
    parts = way(2 * gpus).parts(2 * gpus)
    del parts["computing"]
    return gpus, max(parts, key=lambda part: parts[part])


def gradient_flops(num_items: int, dim: int) -> float:
    """Of the gradient on all items: queries, two passes over all pairs, and the sum over items."""
    return 4 * num_items**2 * dim + 4 * num_items * dim**2


def recall_flops(num_items: int, dim: int) -> float:
    """Of finding the items recovered, where all are: one pass over all pairs.

    An item that is not recovered is compared with a few hundred others only.
    """
    return 2 * num_items**2 * dim + 2 * num_items * dim**2


def _memory(dim: int, exchanges: Sequence[Exchange]) -> Work:
    sizes = ITEMS_PER_DIM * dim, dim
    flops = gradient_flops(*sizes) + recall_flops(*sizes)
    return Work(flops / (hardware.SOFTMAX * hardware.TF32), _sign(dim), exchanges)


def _sign(dim: int) -> float:
    return SIGN_FLOPS * dim**3 / (hardware.PRODUCTS * hardware.BFLOAT16)


def items_shared(dim: int) -> Way:
    """One memory whose items are shared out: `memsolve.ranks`. Each rank holds all outputs."""
    weight, num_items = FLOAT32 * dim**2, ITEMS_PER_DIM * dim
    loss_and_gradient = FLOAT32 * (dim**2 + 1)
    gradient = [
        *REQUEST,
        Exchange("broadcast", weight),
        Exchange("all_to_all", loss_and_gradient),
        Exchange("gather", loss_and_gradient),
    ]
    recall = [*REQUEST, Exchange("broadcast", weight), Exchange("gather", num_items)]
    return lambda _: _memory(dim, [*gradient, *recall])


def outputs_shared(dim: int) -> Way:
    """One memory whose outputs are shared out, which memsolve does not have: at least `6 N d`.

    The queries of all items are gathered once, in bfloat16; each rank's part of their gradients is
    sent to the rank of the item, in float32.
    """
    num_items = ITEMS_PER_DIM * dim
    exchanges = [
        Exchange("all_gather", BFLOAT16 * num_items * dim),
        Exchange("all_to_all", FLOAT32 * num_items * (dim + 3)),
        *items_shared(dim)(1).exchanges[:6],
    ]
    return lambda _: _memory(dim, exchanges)


def _signs(dim: int, matrices: int, gpus: int) -> float:
    """Seconds of one GPU, times `R`, of which each computes whole matrices."""
    return gpus * math.ceil(matrices / gpus) * _sign(dim)


def muon_replicated(dim: int, matrices: int) -> Way:
    """Muon's signs of one shape, shared over ranks that hold all parameters.

    Each rank broadcasts the signs that it owns, so that all ranks get those of all.
    """

    def work(gpus: int) -> Work:
        owned = [len(range(rank, matrices, gpus)) for rank in range(min(gpus, matrices))]
        broadcasts = [Exchange("broadcast", FLOAT32 * count * dim**2) for count in owned]
        return Work(_signs(dim, matrices, gpus), 0.0, [AGREEMENT, *broadcasts])

    return work


def muon_sharded(dim: int, matrices: int) -> Way:
    """Muon's signs of one shape whose parameters are sharded (FSDP2): two all-to-alls."""

    def work(gpus: int) -> Work:
        shards = Exchange("all_to_all", FLOAT32 * matrices * dim**2 / gpus)
        return Work(_signs(dim, matrices, gpus), 0.0, [AGREEMENT, shards, shards])

    return work


def kernel_outputs(batch: int, num_outputs: int, dim: int, width: int = BFLOAT16) -> Way:
    """`softmax_loss` and its gradients with sharded outputs: `group=` of the kernels.

    Each rank gathers the parts of all, (B, d + 3) each, and merges them in the order of ranks.
    """
    flops = 8 * batch * num_outputs * dim
    own = Exchange("all_reduce", width * batch * dim)
    part = FLOAT32 * batch * (dim + 3)

    def work(gpus: int) -> Work:
        shared = flops / (hardware.SOFTMAX * hardware.BFLOAT16)
        agreement = Exchange("all_gather", gpus * ARGUMENTS)
        return Work(shared, 0.0, [agreement, own, Exchange("all_gather", gpus * part)])

    return work
