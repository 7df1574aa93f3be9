"""The scale of a memory: how much a batch holds, a weight stores, and how large it then is."""

import math

import torch
from torch import Tensor

from memsolve.frequencies import power_law
from memsolve.theory.laws import Law


def expected_distinct_items(frequencies: Tensor, batch_sizes: Tensor) -> Tensor:
    """Expected number of distinct items in a batch, `D(B) = sum_i 1 - (1 - p_i)^B` (derived).

    A step recovers no more items than are in its batch, up to chance, so this bounds every
    optimizer at small batches. For large `B` it grows as
    `Gamma(1 - 1/alpha) (B / zeta(alpha))^(1/alpha)`.

    Args:
        frequencies: (N,) float64, sums to 1.
        batch_sizes: (K,) float64, `B >= 1`, not necessarily integers.

    Returns:
        (K,) float64.
    """
    missed = torch.log1p(-frequencies)
    buffer = torch.empty_like(missed)  # one: the heap would grow by an array for every batch size
    return torch.stack(
        [-torch.mul(missed, size, out=buffer).expm1_().sum() for size in batch_sizes]
    )


def limit(dim: int, num_items: int) -> float:
    """Approximate number of items that a weight can store, `d^2 / (2 ln N)` (derived).

    The order `d^2` is published. The equal-weight memory `W = sum_{i <= K} v_i u_i^T` gives a
    stored item a logit of 1, and each of its `N` rivals a logit of variance `K / d^2`; the largest
    of them reaches 1 at this `K`. It holds for anisotropic embeddings as well: these are a linear
    map of isotropic ones, and the inverse map of the weight gives the same logits.
    """
    return dim**2 / (2 * math.log(num_items))


def limit_law(*, isotropic: bool) -> Law:
    """The exponent of `limit`: published for isotropic embeddings, up to logarithms.

    Derived for others: an invertible linear map of the embeddings, undone by the weight, leaves
    what a weight can store unchanged.
    """
    return Law(2.0, "published limit" if isotropic else "derived limit")


def weight_norm(dim: int, num_items: int) -> float:
    """Norm of a weight that stores `limit` items, each with a logit of `log N` (derived).

    For isotropic embeddings; for others it is a scale to start from.

    At this logit, the probability of an item is about one half. Outer products of random items are
    nearly orthogonal, so the sum over `K` items has norm `log N sqrt(K)`, which is
    `d sqrt(log N / 2)`.
    """
    return math.log(num_items) * math.sqrt(limit(dim, num_items))


def least_loss(alpha: float, dim: int, num_items: int) -> float:
    """A lower bound on the population loss of any weight, in nats (derived).

    At most `d^2` items are recovered (published as an order; here without its constant), at best
    the most frequent ones. An item that is not recovered has a probability of at most one half.
    """
    return math.log(2) * float(power_law(num_items, alpha)[dim**2 :].sum())
