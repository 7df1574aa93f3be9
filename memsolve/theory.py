"""The predicted laws: exponents in `d` of what one step from `W = 0`, or many, store.

A law belongs to what an optimizer is, not to what a study calls it: see `method_of`.

Source: Kim, Nichani, Wu, Bietti, Lee, *Sharp Capacity Scaling of Spectral Optimizers in Learning
Associative Memory*, arXiv 2603.26554. All laws hold up to constants and logarithms. `STATUS`
says of each whether the paper states it (published) or this project derived it from the model
(derived: the signal `i^-alpha` of an item against the interference `d^(-1/2)` of the most
frequent one).
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.optim import Muon, Newton
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
        exponent: of `d`.
        status: "published" or "derived".
    """

    exponent: float
    status: str

    def __str__(self) -> str:
        return f"{self.exponent:.2f} {self.status}".rstrip()


def method_of(optimizer: Optimizer, steps: int = 1) -> Method | None:
    """The method that an optimizer is, as far as the laws know methods; None for all others.

    A subclass may do anything, so only the classes themselves count, and of `Muon` only one that
    asks for the polar factor of the gradient: damped, rounded or cut short it is another method.
    Momentum and weight decay make another one beyond the first step from zero.

    Args:
        optimizer: as it will be used.
        steps: how many.
    """
    settings = getattr(optimizer, "defaults", {})  # wrappers may have none
    later = steps > 1 and (settings.get("momentum") or settings.get("weight_decay"))
    if settings.get("maximize") or later:
        return None
    if type(optimizer) is Muon:
        exact = ("damping", "relative_damping", "schedule", "dtype", "gradient_dtype")
        return None if any(settings[name] for name in exact) else "muon"
    known: dict[type, Method] = {torch.optim.SGD: "sgd", Newton: "newton"}
    return known.get(type(optimizer))


def law(method: Method | None, quantity: Quantity, alpha: float) -> Law | None:
    """The law `quantity ~ d^exponent` (see `exponent`), or None where there is none."""
    if method is None:
        return None
    return Law(exponent(method, quantity, alpha), STATUS[method, quantity])


def exponent(method: Method, quantity: Quantity, alpha: float) -> float:
    """Exponent `e` of the law `quantity ~ d^e` of a method.

    The number recovered from the population gradient grows as `d^(1/(2 alpha))` for SGD and as
    `d^(1 + 1/(2 alpha))` for Muon and Newton. A batch of size `B` holds about `B^(1/alpha)`
    distinct items, so the batch size where the two meet has `alpha` times that exponent:
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

    No step recovers more than it has seen, so this is the ceiling of every optimizer at small
    batches. It grows as `Gamma(1 - 1/alpha) (B / zeta(alpha))^(1/alpha)` once `B` is large.

    Args:
        frequencies: (N,) float64, sums to 1.
        batch_sizes: (K,) float64, `B >= 1`, not necessarily whole.

    Returns:
        (K,) float64.
    """
    missed = torch.log1p(-frequencies)
    return torch.stack([-torch.expm1(size * missed).sum() for size in batch_sizes])


def limit(dim: int, num_items: int) -> float:
    """About how many items any weight can store: `d^2 / (2 ln N)` (derived; `d^2` published).

    The equal-weight memory `W = sum_{i <= K} v_i u_i^T` gives a stored item a logit of 1, and each
    of `N` rivals one of variance `K / d^2`; the largest of them passes 1 at this `K`.
    """
    return dim**2 / (2 * math.log(num_items))


def weight_norm(dim: int, num_items: int) -> float:
    """The norm of a weight that stores `limit` items alike, each with a logit of `log N` (derived).

    There an item's probability is about one half. Outer products of random items are nearly
    orthogonal, so that of `K` of them has norm `log N sqrt(K)`, which is `d sqrt(log N / 2)`.
    """
    return math.log(num_items) * math.sqrt(limit(dim, num_items))


def least_loss(alpha: float, dim: int, num_items: int) -> float:
    """A loss of the population, in nats, that no weight goes below (derived).

    At most `d^2` items are recovered (published, as an order: here without its constant), at best
    the most frequent ones, and an item that is not has a probability of one half at most.
    """
    return math.log(2) * float(power_law(num_items, alpha)[dim**2 :].sum())


def exponents_by_step(method: Method, alpha: float, steps: int) -> list[float]:
    """Exponents `e_t` of the number recovered, `d^e_t`, after each of so many steps.

    Of Muon with thresholded gradients `e_t = 2 - (1 - 1/(2 alpha))^t` (published; conjectured there
    for exact ones). Of SGD `e_(t+1) = min(e_t + 1/(2 alpha), e_t (1 - 1/(2 alpha)) + 1/alpha)`
    from `e_0 = 0` (derived): slow up to `d`, then Muon's own recursion.

    Args:
        method: "muon" or "sgd"; Newton's many steps have no law.
        alpha: exponent of the frequencies, above 1.
        steps: how many.

    Raises:
        KeyError: another method.
    """
    gain = 1 / (2 * alpha)

    def late(e: float) -> float:
        return e * (1 - gain) + 2 * gain

    def early(e: float) -> float:
        return min(e + gain, late(e))

    start, step = {"muon": (1.0, late), "sgd": (0.0, early)}[method]
    found = []
    for _ in range(steps):
        start = step(start)
        found.append(start)
    return found
