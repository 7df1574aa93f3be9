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

    Every iterate `X` has `<X, target> > 0`: if `target` is a gradient, `-X` is a descent direction,
    however early the iteration stops.

    Args:
        operator: linear, symmetric and positive semidefinite, on tensors of `target`'s shape.
        preconditioner: likewise, and positive definite; the closer to the inverse of `operator`,
            the fewer iterations.
        target: of any shape, in float32 or float64.
        tolerance: stop once the residual `R` has decreased by this factor, in the norm
            `sqrt(<R, preconditioner(R)>)`.
        max_iterations: maximum number of products with `operator`.

    Returns:
        The last iterate. If rounding leaves no positive curvature, the one before it, which is zero
        in the first iteration.

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
