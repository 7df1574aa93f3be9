"""Backtracking line search along a descent direction."""

from collections.abc import Callable

import torch
from torch import Tensor

SUFFICIENT_DECREASE = 1e-4
"""Fraction of the decrease predicted by the slope that a step must reach."""


def backtrack(loss: Callable[[float], Tensor], slope: float, first: float) -> float:
    """The first of `first, first / 2, first / 4, ...` at which the loss decreases sufficiently.

    The decrease must exceed `SUFFICIENT_DECREASE` of that predicted by the slope (Armijo), and be
    visible in floating point. The search ends once the prediction is below the rounding of the
    loss.

    Args:
        loss: the loss, a scalar, as a function of the step size.
        slope: its rate of decrease at 0, per unit of the step size.
        first: initial step size, above 0.

    Returns:
        The step size; 0.0 if there is none.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 3.1.
    """
    start = loss(0.0)
    rounding = torch.finfo(start.dtype).eps * abs(float(start))
    size = first
    while size * slope > rounding:
        if loss(size) < start - SUFFICIENT_DECREASE * size * slope:
            return size
        size /= 2
    return 0.0
