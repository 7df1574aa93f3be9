"""The noise scale of the gradient: exact, because the population is known, and estimated.

The simple noise scale `tr(Sigma) / |G|^2`, with `Sigma` the covariance of the gradient of one
example and `G` its mean, predicts the critical batch size of training (McCandlish, Kaplan, Amodei,
*An Empirical Model of Large-Batch Training*, 2018, arXiv 1812.06162).
"""

import numpy as np
import torch
from memsolve_kernels import softmax_gradient
from memsolve_kernels.errors import RangeError
from torch import Tensor

from memsolve.engine.results.estimate import POSITIVE, Estimate, Floats, jackknife
from memsolve.problem import AssociativeMemory

ITEMS_AT_ONCE = 1 << 14


def noise_scale(memory: AssociativeMemory, weight: Tensor) -> float:
    """`tr(Sigma) / |G|^2` at `weight` (d, d), in examples.

    The gradient of an item has rank one, so its squared norm is a product of two norms, and
    `tr(Sigma) = sum_i p_i |g_i|^2 - |G|^2` takes one pass over the items.
    """
    gradient, square = torch.zeros_like(weight), 0.0
    frequencies = memory.frequencies.to(memory.inputs)
    for items in torch.arange(memory.num_items, device=weight.device).split(ITEMS_AT_ONCE):
        inputs, shares = memory.inputs[items], frequencies[items]
        ones = torch.ones_like(shares)  # unweighted: rare items lose no digits to a division
        _, by_query = softmax_gradient(inputs @ weight.T, memory.outputs, items, ones)
        square += float(shares @ (by_query.square().sum(1) * inputs.square().sum(1)))
        gradient.addmm_((by_query * shares[:, None]).T, inputs)
    signal = float(gradient.square().sum())
    return (square - signal) / signal


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
