"""Predicted laws: exponents in `d` of the number of items recovered after one or more steps.

A law belongs to a method, whatever the label of the optimizer in a study: see `method_of`.

Source: Kim, Nichani, Wu, Bietti, Lee, *Sharp Capacity Scaling of Spectral Optimizers in Learning
Associative Memory*, arXiv 2603.26554. All laws hold up to constants and logarithms. In `STATUS`,
a law is either published, stated in the paper, or derived by this project from the model: the
signal `i^-alpha` of an item competes with the interference `d^(-1/2)` of the most frequent one.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.optim import Muon, Newton, TheoremMuon
from memsolve.problem import power_law

Method = Literal["sgd", "muon", "newton"]
Quantity = Literal["recovered", "saturation_batch_size"]

STATUS: dict[tuple[Method, Quantity], Literal["published", "derived"]] = {
    ("sgd", "recovered"): "derived",
    ("sgd", "saturation_batch_size"): "derived",
    ("muon", "recovered"): "published",
    ("muon", "saturation_batch_size"): "published",
    ("newton", "recovered"): "published",
    ("newton", "saturation_batch_size"): "derived",
}


class Law(NamedTuple):
    """A predicted power of `d`.

    Attributes:
        exponent: the power of `d`.
        status: "published" or "derived".
    """

    exponent: float
    status: str

    def __str__(self) -> str:
        return f"{self.exponent:.2f} {self.status}".rstrip()


def method_of(optimizer: Optimizer, steps: int = 1) -> Method | None:
    """The method of an optimizer, if the laws cover it; None otherwise.

    Subclasses are not covered, since they may do anything. `Muon` is covered if it computes the
    polar factor of the gradient; with damping, rounding or a shortened schedule it is another
    method. So is every optimizer with momentum or weight decay beyond its first step from zero.

    Args:
        optimizer: with the settings that it is used with.
        steps: number of steps from zero.
    """
    settings = getattr(optimizer, "defaults", {})  # wrappers may have none
    later = steps > 1 and (settings.get("momentum") or settings.get("weight_decay"))
    if settings.get("maximize") or later:
        return None
    if type(optimizer) in (Muon, TheoremMuon):
        exact = ("damping", "relative_damping", "schedule", "dtype", "gradient_dtype")
        return None if any(settings[name] for name in exact) else "muon"
    methods: dict[type, Method] = {torch.optim.SGD: "sgd", Newton: "newton"}
    return methods.get(type(optimizer))


def law(method: Method | None, quantity: Quantity, alpha: float) -> Law | None:
    """The law `quantity ~ d^exponent` (see `exponent`); None if there is none."""
    if method is None:
        return None
    return Law(exponent(method, quantity, alpha), STATUS[method, quantity])


def exponent(method: Method, quantity: Quantity, alpha: float) -> float:
    """Exponent `e` of the law `quantity ~ d^e` of a method.

    The number of items recovered from the population gradient grows as `d^(1/(2 alpha))` for SGD
    and as `d^(1 + 1/(2 alpha))` for Muon and Newton. A batch of size `B` holds about `B^(1/alpha)`
    distinct items, so the batch size at which the two are equal has `alpha` times that exponent:
    1/2 for SGD, `alpha + 1/2` for Muon and Newton.

    Args:
        method: "sgd", "muon" or "newton".
        quantity: "recovered" or "saturation_batch_size".
        alpha: exponent of the frequencies, above 1.
    """
    recovered = 1 / (2 * alpha) + (method != "sgd")
    return recovered if quantity == "recovered" else alpha * recovered


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
    return torch.stack([-torch.expm1(size * missed).sum() for size in batch_sizes])


def limit(dim: int, num_items: int) -> float:
    """Approximate number of items that a weight can store, `d^2 / (2 ln N)` (derived).

    The order `d^2` is published. The equal-weight memory `W = sum_{i <= K} v_i u_i^T` gives a
    stored item a logit of 1, and each of its `N` rivals a logit of variance `K / d^2`; the largest
    of them reaches 1 at this `K`.
    """
    return dim**2 / (2 * math.log(num_items))


def weight_norm(dim: int, num_items: int) -> float:
    """Norm of a weight that stores `limit` items, each with a logit of `log N` (derived).

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


def exponents_by_step(method: Method, alpha: float, steps: int) -> list[float]:
    """Exponents `e_t` of the number of items recovered, `d^e_t`, after each step.

    For Muon with thresholded gradients, `e_t = 2 - (1 - 1/(2 alpha))^t` (published; conjectured
    there for exact gradients). For SGD (derived), from `e_0 = 0`,
    `e_(t+1) = min(e_t + 1/(2 alpha), e_t (1 - 1/(2 alpha)) + 1/alpha)`: slow up to `d`, then the
    recursion of Muon.

    Args:
        method: "muon" or "sgd"; there is no law for further steps of Newton's method.
        alpha: exponent of the frequencies, above 1.
        steps: number of steps.

    Raises:
        KeyError: another method.
    """
    gain = 1 / (2 * alpha)

    def late(e: float) -> float:
        return e * (1 - gain) + 2 * gain

    def early(e: float) -> float:
        return min(e + gain, late(e))

    start, step = {"muon": (1.0, late), "sgd": (0.0, early)}[method]
    exponents = [start]
    for _ in range(steps):
        exponents.append(step(exponents[-1]))
    return exponents[1:]


def rate_law(
    method: Method | None, gradient: Literal["exact", "thresholded"], alpha: float, step: int
) -> Law | None:
    """The law of the items recovered after a step, `exponents_by_step`; None if there is none.

    Muon's is published for thresholded gradients and, after one step, for exact ones; beyond, it
    is conjectured there for exact ones. SGD's is derived, beyond one step for learning rates that
    grow, by up to `sqrt(d)` a step.
    """
    if method not in ("sgd", "muon"):
        return None
    if method == "sgd":
        status = "derived" if step == 1 else "derived, growing steps"
    else:
        status = "published" if step == 1 or gradient == "thresholded" else "conjectured"
    return Law(exponents_by_step(method, alpha, step)[-1], status)
