"""The laws of one step: the methods that have one, their capacity and saturation batch size."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from memsolve.optim import Muon, Newton, SpectralPower, TheoremMuon
from memsolve.theory.damping import UNDAMPED, DampingBound
from memsolve.theory.laws import Law, Method

Quantity = Literal["recovered", "saturation_batch_size"]

STATUS: dict[tuple[Method, Quantity], Literal["published", "derived"]] = {
    ("sgd", "recovered"): "derived",
    ("sgd", "saturation_batch_size"): "derived",
    ("muon", "recovered"): "published",
    ("muon", "saturation_batch_size"): "published",
    ("newton", "recovered"): "published",
    ("newton", "saturation_batch_size"): "derived",
}

LARGEST_SCALE = 1.0
"""Of `TheoremMuon` for the law of Muon: there its damping is `d^-alpha`, with a constant of one."""

INEXACT = "schedule", "dtype", "gradient_dtype", "momentum_dtype"
"""Settings of `Muon` that round or shorten the steps of the laws."""


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
    if type(optimizer) is TheoremMuon and optimizer.scale > LARGEST_SCALE:
        return None
    if type(optimizer) in (Muon, TheoremMuon):
        only_muon = all(group["use_muon"] for group in optimizer.param_groups)
        exact = only_muon and not any(settings[name] for name in INEXACT)
        return "muon" if exact and _is_damped_within(settings, steps, bound) else None
    if type(optimizer) is SpectralPower:
        powers: dict[float, Method] = {0.0: "muon", 1.0: "sgd"}
        return powers.get(settings["power"])
    methods: dict[type, Method] = {torch.optim.SGD: "sgd", Newton: "newton"}
    return methods.get(type(optimizer))


def _is_damped_within(settings: Mapping[str, Any], steps: int, bound: DampingBound) -> bool:
    """Whether the damping in Muon's settings is at most the bound."""
    if settings["relative_damping"] and settings["damping_norm"] != "spectral":
        return False
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
