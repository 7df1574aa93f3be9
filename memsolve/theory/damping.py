"""The law of the damping that a step of Muon bears."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from memsolve.frequencies import power_law
from memsolve.theory.laws import Law


class DampingBound(NamedTuple):
    """The largest dampings with which the law of Muon holds; by default none.

    Attributes:
        relative: to the largest singular value of the gradient.
        absolute: in the units of the first gradient.
    """

    relative: float = 0.0
    absolute: float = 0.0


UNDAMPED = DampingBound()


def largest_damping(alpha: float, dim: int, batch_size: float | None = None) -> float:
    """The damping that keeps Muon's capacity, `max(d^-alpha, 1/B)` (published, up to logarithms).

    It is relative to the largest singular value of the first gradient, which does not grow with
    `d`. The theorem takes `max((log d)^(2 alpha + 2) d^-alpha, (log d)^2 / B)`; here the powers are
    taken with a constant of one. By `memsolve damping`, this keeps 90% of the undamped count or
    more on the population (measured, at alpha from 1.2 to 2.5 and d up to 512).

    Later steps are no stricter (derived): `lambda_t`, which falls as `d_(t+1)^-alpha sqrt(d)`, is
    of the order of the largest singular value of a gradient that lacks the recovered items.

    Args:
        alpha: exponent of the frequencies, above 1.
        dim: `d`.
        batch_size: `B`; None for the population.
    """
    population = float(dim**-alpha)
    return population if batch_size is None else max(population, 1 / batch_size)


def damping_law(alpha: float) -> Law:
    """The law of the largest damping on the population, `d^-alpha` (published)."""
    return Law(-alpha, "published")


def damping_bound(
    alpha: float, memories: Iterable[tuple[int, int]], batch_size: int | None = None
) -> DampingBound:
    """The largest damping with which Muon's law holds on all of several memories.

    The largest singular value of the first gradient is about the largest frequency (derived: that
    of the most frequent item's outer product, whose vectors have norms of about one).

    Args:
        alpha: exponent of the frequencies, above 1.
        memories: `d` and `N` of each.
        batch_size: `B`; None for the population.
    """
    bounds = [
        (largest_damping(alpha, dim, batch_size), float(power_law(num_items, alpha)[0]))
        for dim, num_items in memories
    ]
    return DampingBound(
        min(relative for relative, _ in bounds), min(relative * top for relative, top in bounds)
    )


def batch_damping(alpha: float, dim: int, num_items: int, batch_size: float) -> float:
    """The largest damping with which a step on a batch recovers its rarest items (derived).

    An item that the batch holds once has the singular value `1/B`, so that a damping `lambda` above
    it leaves a signal of `1 / (B lambda)`. About `lambda^(-1/alpha)` items have larger ones, and
    count fully; against each of `N` rivals they make noise of variance `lambda^(-1/alpha) / d^2`,
    whose largest is `sqrt(2 ln N)` times its root. The two are equal at
    `lambda = (d / (B sqrt(2 ln N)))^(2 alpha / (2 alpha - 1))`. At `B = d^(alpha + 1/2)`, where
    capacity saturates, its power of `d` is that of the population, `d^-alpha`. In between it
    exceeds the published `max(d^-alpha, 1/B)`, which is enough, but not the largest.
    """
    signal = dim / (batch_size * math.sqrt(2 * math.log(num_items)))
    return float(signal ** (2 * alpha / (2 * alpha - 1)))


def batch_damping_law(alpha: float) -> Law:
    """The law of the largest damping on batches, as a power of `B` (derived; `batch_damping`)."""
    return Law(-2 * alpha / (2 * alpha - 1), "derived")
