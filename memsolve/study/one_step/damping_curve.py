"""Items recovered by one step of a damped polar factor, for every damping of a geometric grid."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from memsolve.frequencies import Batch
from memsolve.problem import AssociativeMemory
from memsolve.recall import recovered

OCTAVES = 3
"""The grid reaches this many octaves to either side of the law's damping, at least."""

FLAT, LOST = 0.97, 0.7
"""Shares of the undamped count: the grid reaches down to the first, and up to below the second."""

LINEAR = 3
"""With a damping of `2^LINEAR` times the largest singular value the step is SGD's, within 1%."""

SCREEN = 16
"""Rivals that rule out most items before the exact evaluation."""


@dataclass(frozen=True)
class DampingCurve:
    """Items that one step recovers, against its damping.

    Attributes:
        octaves: (L,) integers `k`, decreasing: the damping is `2^k` times the largest singular
            value of the gradient.
        recovered: (L,) counts.
        undamped: the count of the exact polar factor.
    """

    octaves: list[int]
    recovered: list[int]
    undamped: int


class DampedStep:
    """One step `U h_lambda(S) V^T` from `W = 0`, by one decomposition for all dampings.

    In the bases of the singular vectors a logit is a sum over singular values. So the logits of the
    items' own outputs cost `U d`, and those of `SCREEN` rivals `SCREEN` times that.

    Args:
        memory: of dimension `d`.
        batch: its items are evaluated.
        gradient: (d, d), the negative gradient on the batch at `W = 0`.
    """

    def __init__(self, memory: AssociativeMemory, batch: Batch, gradient: Tensor) -> None:
        left, values, right = torch.linalg.svd(gradient)
        noise = memory.dim * torch.finfo(values.dtype).eps
        self.relative = values / values[0]
        self.relative[self.relative <= noise] = 0  # as `matrix_sign` does
        self.items = batch.items
        self.inputs, self.outputs = memory.inputs[batch.items] @ right.T, memory.outputs @ left
        self.own = self.inputs * self.outputs[batch.items]

    def recovered(self, damping: float) -> int:
        """Items recovered with a damping relative to the largest singular value; 0 for none."""
        spectrum = self.relative / torch.hypot(self.relative, self.relative.new_tensor(damping))
        spectrum = spectrum.nan_to_num(0)  # of a singular value of zero without damping
        rivals = self.outputs[-SCREEN:]
        beaten = self.inputs @ (rivals * spectrum).T > (self.own @ spectrum)[:, None]
        first_rival = len(self.outputs) - len(rivals)
        (rows,) = (~beaten.any(1) | (self.items >= first_rival)).nonzero(as_tuple=True)
        hits = recovered(self.inputs[rows] * spectrum, self.outputs, self.items[rows])
        return int(hits.sum())


def damping_curve(memory: AssociativeMemory, batch: Batch, scale: float) -> DampingCurve:
    """The curve of a batch around a damping `scale`, extended until it shows the fall."""
    return curve_of(DampedStep(memory, batch, -memory.gradient_at_zero(batch)), scale)


def curve_of(step: DampedStep, scale: float) -> DampingCurve:
    """The curve of a step around a damping `scale`.

    It reaches down to a damping that keeps `FLAT` of the undamped count, and up to one that keeps
    less than `LOST`, or to a step that is SGD's.
    """
    undamped = step.recovered(0.0)
    middle = min(round(math.log2(scale)), LINEAR - OCTAVES)
    counts = {
        octave: step.recovered(2.0**octave) for octave in range(middle - OCTAVES, middle + OCTAVES)
    }
    while counts[min(counts)] < FLAT * undamped:
        counts[min(counts) - 1] = step.recovered(2.0 ** (min(counts) - 1))
    while counts[max(counts)] >= LOST * undamped and max(counts) < LINEAR:
        counts[max(counts) + 1] = step.recovered(2.0 ** (max(counts) + 1))
    octaves = sorted(counts, reverse=True)
    return DampingCurve(octaves, [counts[octave] for octave in octaves], undamped)
