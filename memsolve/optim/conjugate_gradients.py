"""Preconditioned conjugate gradients for a symmetric positive operator on matrices."""

from collections.abc import Callable

import torch
from torch import Tensor

Linear = Callable[[Tensor], Tensor]


def conjugate_gradients(
    operator: Linear,
    preconditioner: Linear,
    target: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
) -> Tensor:
    """Solve `operator(X) = target` from `X = 0`.

    Every iterate `X` has `<X, target> > 0`: where `target` is a gradient, `-X` leads downhill,
    however early the iteration stops.

    Args:
        operator: linear, symmetric and positive semidefinite, on tensors of `target`'s shape.
        preconditioner: likewise and positive; the nearer to the inverse of `operator`, the faster.
        target: of any shape, in float32 or float64.
        tolerance: stop once the residual `R` has fallen by this factor, in the norm
            `sqrt(<R, preconditioner(R)>)`.
        max_iterations: products with `operator` at most.

    Returns:
        The last iterate. Where rounding leaves no positive curvature it is the one before, and zero
        at the first.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 5.3.
    """
    solution, residual = torch.zeros_like(target), target.clone()
    direction = preconditioner(residual)
    first = size = torch.sum(residual * direction)
    for _ in range(max_iterations):
        product = operator(direction)
        curvature = torch.sum(direction * product)
        if not (curvature > 0 and size > 0):
            break
        solution.addcmul_(direction, size / curvature)
        residual.addcmul_(product, size / curvature, value=-1)
        conditioned = preconditioner(residual)
        before, size = size, torch.sum(residual * conditioned)
        if size <= tolerance**2 * first:
            break
        direction = conditioned + size / before * direction
    return solution
