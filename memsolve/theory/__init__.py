"""Predicted laws: exponents in `d` of what an optimizer recovers, bears or needs.

A law belongs to a method, whatever the label of the optimizer in a study: see `method_of`.

Source: Kim, Nichani, Wu, Bietti, Lee, *Sharp Capacity Scaling of Spectral Optimizers in Learning
Associative Memory*, arXiv 2603.26554. All laws hold up to constants and logarithms, and for
isotropic embeddings; `limit` and `least_loss` hold for all. A law is either published, stated in
the paper; conjectured there; or derived by this project from the model: the signal `i^-alpha` of an
item competes with the interference `d^(-1/2)` of the most frequent one.
"""

from memsolve.theory.anisotropy import effective_dim, share_at_anisotropy
from memsolve.theory.damping import (
    UNDAMPED,
    DampingBound,
    batch_damping,
    batch_damping_law,
    damping_bound,
    damping_law,
    largest_damping,
)
from memsolve.theory.laws import Law, Method
from memsolve.theory.noise import noise_scale_exponent
from memsolve.theory.one_step import STATUS, Quantity, exponent, law, method_of
from memsolve.theory.scale import (
    expected_distinct_items,
    least_loss,
    limit,
    limit_law,
    weight_norm,
)
from memsolve.theory.spectral import spectral_law, spectral_power_count, spectral_power_exponent
from memsolve.theory.steps import exponents_by_step, rate_law

__all__ = [
    "STATUS",
    "UNDAMPED",
    "DampingBound",
    "Law",
    "Method",
    "Quantity",
    "batch_damping",
    "batch_damping_law",
    "damping_bound",
    "damping_law",
    "effective_dim",
    "expected_distinct_items",
    "exponent",
    "exponents_by_step",
    "largest_damping",
    "law",
    "least_loss",
    "limit",
    "limit_law",
    "method_of",
    "noise_scale_exponent",
    "rate_law",
    "share_at_anisotropy",
    "spectral_law",
    "spectral_power_count",
    "spectral_power_exponent",
    "weight_norm",
]
