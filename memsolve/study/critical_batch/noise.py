"""Noise scales of the gradient: exact, because the population is known, and estimated.

A noise scale is the batch size at which the noise of the gradient is as large as the gradient. In
the Euclidean norm it is the simple noise scale `tr(Sigma) / |G|^2`, with `Sigma` the covariance of
the gradient of one example and `G` its mean. It is to predict the critical batch size of training
(McCandlish, Kaplan, Amodei, *An Empirical Model of Large-Batch Training*, 2018, arXiv 1812.06162).

An optimizer that takes the steepest step in another norm meets the gradient in the dual norm, and
noise scales in dual norms are published for sign descent, whose dual norm is the l1 norm, and for
spectral descent (Muon), whose dual norm is the nuclear norm (Naganuma et al., *Adaptive Batch Sizes
Using Non-Euclidean Gradient Noise Scales for Stochastic Sign and Spectral Descent*, 2026, arXiv
2602.03001). The expected nuclear norm of the noise has no closed form; here it is bounded by exact
second moments (derived): the trace of the square root is concave, so that
`E |xi|_* = E tr (xi xi^T)^(1/2) <= tr E[xi xi^T]^(1/2)`, and likewise with `xi^T xi`. For the noise
of `B` examples both sides fall as `B^(-1/2)`. Of isotropic Gaussian noise in many dimensions the
expectation is `8 / (3 pi) = 0.85` times the bound.
"""

from typing import NamedTuple

import numpy as np
import torch
from memsolve_kernels.errors import RangeError
from torch import Tensor

from memsolve.engine.results.estimate import POSITIVE, Estimate, Floats, jackknife
from memsolve.problem import AssociativeMemory


class NoiseScales(NamedTuple):
    """Noise scales of a gradient in two norms, in examples.

    Attributes:
        euclidean: `tr(Sigma) / |G|^2`.
        nuclear: `(tr E[xi xi^T]^(1/2) / |G|_*)^2` of the noise `xi` of one example, an upper bound
            of `(sqrt(B) E|xi_B|_* / |G|_*)^2` for every batch size `B`. `xi^T xi` gives another
            bound; the smaller one counts.
    """

    euclidean: float
    nuclear: float


def noise_scales(
    memory: AssociativeMemory, weight: Tensor | None = None, items: Tensor | None = None
) -> NoiseScales:
    """The noise scales of the gradient.

    Args:
        memory: the facts.
        weight: (d, d); default `W = 0`, where the softmax is uniform and the cost is of order
            `N d^2` in place of `N^2 d`.
        items: (M,) int64, those whose gradient counts; the examples of other items have none.
            Default all.

    Raises:
        RangeError: no items, whose gradient is 0.
    """
    if items is not None and not len(items):
        raise RangeError("items is empty; expected at least one, since a noise scale needs a mean")
    mean, left, right = memory.gradient_moments(weight, items)
    signal = float(mean.square().sum())
    noise = min(_root_trace(left - mean @ mean.T), _root_trace(right - mean.T @ mean))
    nuclear_norm = float(torch.linalg.svdvals(mean).sum())
    return NoiseScales((float(left.trace()) - signal) / signal, (noise / nuclear_norm) ** 2)


def _root_trace(moment: Tensor) -> float:
    """Trace of the square root of a positive semidefinite matrix (d, d), up to rounding."""
    return float(torch.linalg.eigvalsh(moment).clamp_min(0).sqrt().sum())


def two_batch_noise_scale(
    memory: AssociativeMemory,
    weight: Tensor,
    *,
    small: int,
    big: int,
    pairs: int,
    generator: torch.Generator | None = None,
) -> Estimate:
    """The noise scale estimated from gradients of batches, as if the population were unknown.

    `E|G_B|^2 = |G|^2 + tr(Sigma) / B`, so two batch sizes give unbiased estimates of
    both (McCandlish et al. 2018, appendix A.1). Their means over the pairs are divided; the
    interval is over the pairs.

    Args:
        memory: the facts.
        weight: (d, d).
        small: number of examples of the smaller batch of a pair.
        big: number of examples of the larger batch.
        pairs: number of pairs of batches.
        generator: draws the batches, on the CPU; default torch's global one.

    Raises:
        RangeError: sizes that are not increasing.
    """
    if not small < big:
        raise RangeError(f"small is {small} and big {big}; expected small < big")
    squares = [
        [
            float(memory.gradient(weight, memory.sample(size, generator)).square().sum())
            for size in (small, big)
        ]
        for _ in range(pairs)
    ]

    def ratio(draws: list[Floats]) -> Floats:
        of_small, of_big = draws[0].mean(1).T
        signal = (big * of_big - small * of_small) / (big - small)
        trace = (of_small - of_big) / (1 / small - 1 / big)
        scale: Floats = np.where(signal > 0, trace / signal, np.nan)
        return scale

    return jackknife([np.array(squares)], ratio, POSITIVE)
