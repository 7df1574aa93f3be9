"""Backtracking: how far to go along a direction for the loss to fall."""

from collections.abc import Callable

import torch
from torch import Tensor

SUFFICIENT = 1e-4  # share of the fall that the slope foresees which a step must bring


def backtrack(loss: Callable[[float], Tensor], slope: float, first: float) -> float:
    """The first step size of `first, first / 2, first / 4, ...` at which the loss falls enough.

    It must fall by more than 1e-4 of what the slope foresees (Armijo), and in floating point.
    The search ends where that fall is below the rounding of the loss.

    Args:
        loss: the loss (a scalar) against the step size.
        slope: its fall per unit of step at 0.
        first: step size to begin with, above 0.

    Returns:
        The step size, or 0.0 if there is none.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 3.1.
    """
    start = loss(0.0)
    rounding = torch.finfo(start.dtype).eps * abs(float(start))
    size = first
    while size * slope > rounding:
        if loss(size) < start - SUFFICIENT * size * slope:
            return size
        size /= 2
    return 0.0
