"""The law of steps that change the singular values of the gradient, `U f(S) V^T`."""

import math

import torch
from torch.optim import Optimizer

from memsolve.optim import RandomSpectrum, SpectralPower
from memsolve.theory.laws import Law
from memsolve.theory.one_step import law, method_of


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
