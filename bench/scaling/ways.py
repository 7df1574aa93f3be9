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

FLOAT64, FLOAT32, BFLOAT16 = 8, 4, 2
"""Bytes of a number."""

MOST_GPUS = 1 << 12
"""Where the search for the limit of a way ends: a power of two."""


class Products(NamedTuple):
    """Matrix products that take part in the sign of a (d, d) matrix.

    Attributes:
        flops: in `d^3`.
        peak: flops a second.
    """

    flops: int
    peak: float


Sign = Sequence[Products]

DEFAULT_SIGN: Sign = Products(12, hardware.FLOAT64), Products(60, hardware.TF32X3)
"""Of a float32 matrix: 12 steps of three products, the first two in float64."""

FLOAT64_SIGN: Sign = [Products(108, hardware.FLOAT64)]
"""Of a float64 matrix: 18 steps."""

STOCK_SIGN: Sign = [Products(30, hardware.BFLOAT16)]
"""With `schedule="muon", dtype=torch.bfloat16`: five steps."""


def sign_seconds(sign: Sign, dim: int) -> float:
    """The duration of the sign of a (d, d) matrix. Symmetric products count in full."""
    return sum(flops * dim**3 / (hardware.PRODUCTS * peak) for flops, peak in sign)


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
            return self.size
        return (2 if self.kind == "all_reduce" else 1) * self.size * (gpus - 1) / gpus


class Work(NamedTuple):
    """A step of `R` GPUs.

    Attributes:
        shared: seconds of one GPU for what the GPUs share.
        alone: seconds for what rank 0 does alone.
        exchanges: collective calls of several GPUs, one after the other.
        idle: seconds in which most GPUs wait, because the work cannot be divided evenly.
    """

    shared: float
    alone: float
    exchanges: Sequence[Exchange]
    idle: float = 0.0

    def parts(self, gpus: int) -> dict[str, float]:
        """Seconds of a step, by what takes them."""
        return {
            "computing": self.shared / gpus,
            "rank 0": self.alone,
            "idle": self.idle,
            "bytes": self.passing(gpus) / hardware.bandwidth(gpus),
            "calls": len(self.calls(gpus)) * hardware.CALL,
        }

    def calls(self, gpus: int) -> Sequence[Exchange]:
        """The collective calls; one GPU makes none."""
        return self.exchanges if gpus > 1 else []

    def passing(self, gpus: int) -> float:
        """Bytes through the busiest GPU."""
        return sum(each.passing(gpus) for each in self.calls(gpus))


WORD = 8
"""Bytes of an integer."""

AGREEMENT = Exchange("all_reduce", WORD)
"""The ranks of a memory agree that none has failed."""

MUON_AGREEMENT = Exchange("all_reduce", 3 * WORD)
"""The ranks of Muon agree likewise, and on a digest of their settings."""

ARGUMENTS = 10 * WORD
"""Bytes that describe a rank's arguments of a kernel, which the ranks compare."""

OPERATION = 128
"""Bytes that name an operation of a memory, about."""

Way = Callable[[int], Work]
"""The work of a step, given the number of GPUs."""


def seconds(way: Way, gpus: int) -> float:
    """The duration of a step."""
    return sum(way(gpus).parts(gpus).values())


def efficiency(way: Way, gpus: int) -> float:
    """The time of one GPU over the total time of all."""
    return seconds(way, 1) / (gpus * seconds(way, gpus))


def limit(way: Way, least: float = 0.5) -> tuple[int, str]:
    """The largest power of two of GPUs with this efficiency, to two digits, and what limits it.

    That is the largest part other than computing, of a step on twice as many GPUs.
    """
    powers = [1 << power for power in range(MOST_GPUS.bit_length())]
    gpus = max(each for each in powers if round(efficiency(way, each), 2) >= least)
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


def _memory(dim: int, sign: Sign, exchanges: Sequence[Exchange]) -> Work:
    sizes = ITEMS_PER_DIM * dim, dim
    flops = gradient_flops(*sizes) + recall_flops(*sizes)
    shared = flops / (hardware.SOFTMAX * hardware.FLOAT32)  # the same in float64
    return Work(shared, sign_seconds(sign, dim), exchanges)


def _operation(weight: float) -> list[Exchange]:
    """What precedes the results of an operation: its length, itself, the weight, the agreement."""
    return [*(Exchange("broadcast", size) for size in (WORD, OPERATION, weight)), AGREEMENT]


def _gradient(dim: int, width: int) -> list[Exchange]:
    """The exchanges of a memory's loss and gradient, which are added in slices."""
    loss_and_gradient = width * (dim**2 + 1)
    return [
        *_operation(width * dim**2),
        Exchange("all_to_all", loss_and_gradient),
        Exchange("gather", loss_and_gradient),
    ]


def items_shared(dim: int, width: int = FLOAT32, sign: Sign = DEFAULT_SIGN) -> Way:
    """One memory whose items are shared out: `memsolve.ranks`. Each rank holds all outputs.

    Args:
        dim: d.
        width: bytes of its numbers.
        sign: of the optimizer, which rank 0 runs alone.
    """
    recall = [*_operation(width * dim**2), Exchange("gather", ITEMS_PER_DIM * dim)]
    return lambda _: _memory(dim, sign, [*_gradient(dim, width), *recall])


def outputs_shared(dim: int) -> Way:
    """One memory whose outputs are shared out, which memsolve does not have: a lower bound.

    The queries of all items are gathered once, in bfloat16; each rank's part of their gradients is
    sent to the rank of the item, in float32. What a recall sends is left out.
    """
    num_items = ITEMS_PER_DIM * dim
    exchanges = [
        Exchange("all_gather", BFLOAT16 * num_items * dim),
        Exchange("all_to_all", FLOAT32 * num_items * (dim + 3)),
        *_gradient(dim, FLOAT32),
    ]
    return lambda _: _memory(dim, DEFAULT_SIGN, exchanges)


def _signs(sign: Sign, dim: int, matrices: int, gpus: int, exchanges: list[Exchange]) -> Work:
    """The signs of some matrices, each of which one GPU computes."""
    seconds_each = sign_seconds(sign, dim)
    idle = seconds_each * (math.ceil(matrices / gpus) - matrices / gpus)
    return Work(seconds_each * matrices, 0.0, exchanges, idle)


def muon_replicated(dim: int, matrices: int, sign: Sign = DEFAULT_SIGN) -> Way:
    """Muon's signs of one shape, shared over ranks that hold all parameters, in float32.

    Each rank broadcasts the signs that it owns, so that all ranks get those of all.
    """

    def work(gpus: int) -> Work:
        owned = [len(range(rank, matrices, gpus)) for rank in range(min(gpus, matrices))]
        broadcasts = [Exchange("broadcast", FLOAT32 * count * dim**2) for count in owned]
        exchanges = [MUON_AGREEMENT, MUON_AGREEMENT, *broadcasts]
        return _signs(sign, dim, matrices, gpus, exchanges)

    return work


def muon_sharded(dim: int, matrices: int, sign: Sign = DEFAULT_SIGN) -> Way:
    """Muon's signs of one shape whose parameters are sharded (FSDP2): two all-to-alls."""

    def work(gpus: int) -> Work:
        shards = Exchange("all_to_all", FLOAT32 * matrices * dim**2 / gpus)
        exchanges = [MUON_AGREEMENT, shards] * 2
        return _signs(sign, dim, matrices, gpus, exchanges)

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
