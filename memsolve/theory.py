"""Predicted laws: exponents in `d` of the number of items recovered after one or more steps.

A law belongs to a method, whatever the label of the optimizer in a study: see `method_of`.

Source: Kim, Nichani, Wu, Bietti, Lee, *Sharp Capacity Scaling of Spectral Optimizers in Learning
Associative Memory*, arXiv 2603.26554. All laws hold up to constants and logarithms, and for
isotropic embeddings; `limit` and `least_loss` hold for all. In `STATUS`,
a law is either published, stated in the paper, or derived by this project from the model: the
signal `i^-alpha` of an item competes with the interference `d^(-1/2)` of the most frequent one.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.embeddings import eigenvalues
from memsolve.optim import Muon, Newton, RandomSpectrum, SpectralPower, TheoremMuon
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


class DampingBound(NamedTuple):
    """The largest dampings with which the law of Muon holds; by default none.

    Attributes:
        relative: to the largest singular value of the gradient.
        absolute: in the units of the first gradient.
    """

    relative: float = 0.0
    absolute: float = 0.0


UNDAMPED = DampingBound()


def method_of(
    optimizer: Optimizer, steps: int = 1, bound: DampingBound = UNDAMPED
) -> Method | None:
    """The method of an optimizer, if the laws cover it; None otherwise.

    Subclasses are not covered, since they may do anything. `Muon` is covered if it computes the
    polar factor of the gradient, up to a damping within `bound`; with more damping, rounding or a
    shortened schedule it is another method. So is every optimizer with momentum or weight decay
    beyond its first step from zero. An absolute damping is compared with the first gradient only:
    later ones, and running means, have other units.

    Args:
        optimizer: with the settings that it is used with.
        steps: number of steps from zero.
        bound: of the memories and batches that it is used on, see `damping_bound`.
    """
    settings = getattr(optimizer, "defaults", {})  # wrappers may have none
    later = steps > 1 and (settings.get("momentum") or settings.get("weight_decay"))
    if settings.get("maximize") or later:
        return None
    if type(optimizer) in (Muon, TheoremMuon):
        inexact = any(settings[name] for name in ("schedule", "dtype", "gradient_dtype"))
        return "muon" if not inexact and _is_damped_within(settings, steps, bound) else None
    if type(optimizer) is SpectralPower:
        powers: dict[float, Method] = {0.0: "muon", 1.0: "sgd"}
        return powers.get(settings["power"])
    methods: dict[type, Method] = {torch.optim.SGD: "sgd", Newton: "newton"}
    return methods.get(type(optimizer))


def _is_damped_within(settings: Mapping[str, Any], steps: int, bound: DampingBound) -> bool:
    """Whether the damping in Muon's settings is at most the bound."""
    absolute = 0.0 if steps > 1 or settings["momentum"] else bound.absolute
    return bool(settings["relative_damping"] <= bound.relative and settings["damping"] <= absolute)


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
    of them reaches 1 at this `K`. It holds for anisotropic embeddings as well: these are a linear
    map of isotropic ones, and the inverse map of the weight gives the same logits.
    """
    return dim**2 / (2 * math.log(num_items))


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


def noise_scale_exponent(
    norm: Literal["euclidean", "nuclear"], alpha: float, recovered: float = 0
) -> float:
    """Exponent in `d` of the noise scale of the gradient without its most frequent items (derived).

    The gradient is that at `W = 0` of all but the `k = d^recovered` most frequent items, as after a
    step that recovers these. In the Euclidean norm the noise scale is the sum of the remaining
    frequencies over the sum of their squares, `k^(1 - alpha) / k^(1 - 2 alpha) = k^alpha`.

    In the nuclear norm it is `(tr E[xi xi^T]^(1/2) / |G|_*)^2`. The first `d` items have nearly
    orthogonal gradients, so the eigenvalues of the moment are `j^-alpha` and the singular values
    of `G` are `j^-alpha`, for `j` from `k` to `d`; the items beyond `d` add a `d^-alpha` to each,
    which changes no sum's power. Without the first `d` items both matrices are isotropic, and the
    powers of the two noise scales agree. Where the power vanishes for `alpha = 2`, the noise scale
    grows as `(log d)^2`.

    With the number of items that one step recovers, `k^alpha` has the power of the saturation batch
    size (`exponent`), since a batch of `k^alpha` examples holds item `k` about once.

    Args:
        norm: of the gradient and of its noise.
        alpha: exponent of the frequencies, above 1.
        recovered: exponent of the number of items left out; 0 leaves out none that count.
    """
    if norm == "euclidean" or recovered >= 1:
        return alpha * recovered
    noise = max(2 - alpha, recovered * (2 - alpha))
    return noise + 2 * recovered * (alpha - 1)


def spectral_law(optimizer: Optimizer, alpha: float) -> Law | None:
    """The law of recovered items after one step of a spectral power, or of random singular values.

    None for other optimizers, and for powers of -1/2 or below.
    """
    if type(optimizer) is RandomSpectrum:
        return Law(spectral_power_exponent(0.0, alpha), "derived")
    if type(optimizer) is not SpectralPower or optimizer.defaults["power"] <= -1 / 2:
        return None
    method = method_of(optimizer)
    if method is not None:
        return law(method, "recovered", alpha)
    return Law(spectral_power_exponent(optimizer.defaults["power"], alpha), "derived")


def spectral_power_exponent(power: float, alpha: float) -> float:
    """Exponent `e` of the items `d^e` that one step of `U S^power V^T` recovers (derived).

    `1 + 1/(2 alpha)` for powers in (-1/2, 0]; `1 + 1/(2 alpha) - power` up to `1/(2 alpha)`; and
    `1/(2 alpha power)` above. At 0 and 1 these are the laws of Muon and SGD.

    The gradient's singular values fall as `k^-alpha`, about those of the `d` most frequent items.
    Item `i <= d` has the signal `i^(-alpha power)`. A rarer one is a perturbation of the singular
    vectors: the derivative of `S^power` at singular values of about `d^-alpha`, the most of them,
    gives it `i^-alpha d^(alpha (1 - power))`. Of positive powers the most frequent item interferes
    most, by `d^(-1/2)`. Of powers up to 0 all rivals interfere alike, by `d^(-1/2 - alpha power)`;
    below -1/2 the smallest singular values dominate, and this argument ends. Random singular values
    that are independent of the gradient keep signal and interference in the order of power 0.
    """
    gain = 1 / (2 * alpha)
    if power <= 0:
        return 1 + gain
    return 1 + gain - power if power <= gain else gain / power


def spectral_power_count(power: float, alpha: float, dim: int, num_items: int) -> float:
    """Expected number of items that one step of `U S^power V^T` recovers, up to a factor (derived).

    The argument of `spectral_power_exponent` at a finite `d`, where the many weak rivals of an item
    interfere as much as the few strong ones: item `i` with signal `s_i` is recovered with
    probability `Phi(s_i / b)^N prod_(j <= d) Phi(s_i / a_j)`. The logit of the rival `j <= d` has
    the standard deviation `a_j = j^(-alpha power) d^(-1/2)`, those of all others `b`, with
    `b^2 = sum_(j <= d) a_j^2 / d`. The constants of the singular values are taken as 1, so that
    only ratios between dimensions are meaningful.

    Args:
        power: of the singular values, above -1/2.
        alpha: exponent of the frequencies, above 1.
        dim: embedding dimension `d`.
        num_items: `N`.
    """
    rank = torch.logspace(0, math.log2(num_items), 400, base=2, dtype=torch.float64)
    rare = rank**-alpha * dim ** (alpha * (1 - power))
    signal = torch.where(rank <= dim, rank ** (-alpha * power), rare)
    strong = torch.arange(1, dim + 1, dtype=torch.float64) ** (-alpha * power) / math.sqrt(dim)
    weak = strong.norm() / math.sqrt(dim)
    log_probability = num_items * torch.special.log_ndtr(signal / weak)
    log_probability += torch.special.log_ndtr(signal[:, None] / strong).sum(1)
    probability = log_probability.exp()
    return float(probability[0] / 2 + torch.trapezoid(probability, rank))


def effective_dim(dim: int, anisotropy: float) -> float:
    """Effective dimension of embeddings, `1 / sum_j lambda_j^2` of their covariance of trace 1.

    Two such embeddings have an inner product of about `effective_dim^(-1/2)`. It is `d` at
    kappa = 0 and grows as `d` below kappa = 1/2, as `d^(2 - 2 kappa)` between 1/2 and 1, and not
    as a power of `d` above 1.
    """
    return 1 / float(eigenvalues(dim, anisotropy).square().sum())


def share_at_anisotropy(
    method: Method | None, alpha: float, dim: int, anisotropy: float
) -> float | None:
    """Items that one step recovers from anisotropic inputs, relative to isotropic ones (derived).

    SGD's capacity `d^(1/(2 alpha))` follows from the inner product of two inputs, so that
    `effective_dim` takes the place of `d`. Newton's step without damping gives the same logits
    after any invertible linear map of the inputs, so its share is 1. There is no law for Muon.
    """
    shares = {
        "sgd": (effective_dim(dim, anisotropy) / dim) ** (1 / (2 * alpha)),
        "newton": 1.0,
    }
    return None if method is None else shares.get(method)


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
