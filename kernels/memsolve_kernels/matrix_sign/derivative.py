"""The derivative of the matrix sign: exact, of any order, also at repeated singular values.

Let `S = (G G^T + damping^2 I)^(1/2)`, so that the sign `P` of `G` (m, n), m <= n, solves `S P = G`.
If `G` changes in the direction `E`, then `S` changes by `dS` and `P` by `dP`, with

    S dS + dS S = E G^T + G E^T    and    S dP = E - dS P.

The first is a Sylvester equation. In the eigenbasis of `S`, with eigenvalues `s`, its solution is a
division by `s_i + s_j`: differences, which vanish where singular values repeat, do not occur. The
derivatives of `S` and of a solution are solutions of Sylvester equations again, hence any order.

`P` is the gradient by `G` of the sum of `s`. So the map from `E` to `dP` is symmetric, and the same
for backward and forward mode. It is that of the exact sign, whatever schedule computed the sign.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from memsolve_kernels.errors import RangeError
from memsolve_kernels.modes import any_traced, apply


def derivative(matrix: Tensor, direction: Tensor, damping: float) -> Tensor:
    """The derivative of the sign of a matrix in a direction; differentiable by both.

    Args:
        matrix: (..., m, n).
        direction: of its shape.
        damping: of the sign.

    Returns:
        (..., m, n) in the dtype of the matrix, computed in float64.

    Raises:
        RangeError: a matrix without full rank, up to rounding in float64, and without a damping
            beyond that; where values cannot be read, the result is NaN instead.
    """
    if matrix.numel() == 0:
        return torch.zeros_like(matrix)
    if matrix.shape[-2] > matrix.shape[-1]:
        return derivative(matrix.mT, direction.mT, damping).mT
    G, scale = _normalize(matrix.double(), damping)
    E = direction.double() / scale
    S, basis, values = apply(_Root, G, damping / scale)
    if not any_traced([values]) and values.isnan().any():
        raise RangeError(
            f"a matrix of shape {tuple(matrix.shape)} has no full rank, and damping={damping:g} is "
            "no more than rounding beside it: its sign has no derivative; give a damping, or pass "
            "matrix.detach() to treat the sign as a constant"
        )
    dS = _sylvester(S, E @ G.mT + G @ E.mT, basis, values)
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device).expand_as(S)
    inverse = 2 * _sylvester(S, identity, basis, values)
    return (inverse @ (E - dS @ (inverse @ G))).to(matrix.dtype)


def _normalize(matrix: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """A matrix with entries of at most one, and its scale, which is a constant to a derivative."""
    scale = matrix.detach().abs().amax(dim=(-2, -1), keepdim=True).clamp(min=damping)
    scale = torch.where(scale == 0, 1, scale)
    return matrix / scale, scale


def _sylvester(S: Tensor, C: Tensor, basis: Tensor, values: Tensor) -> Tensor:
    """The solution `X` of `S X + X S = C`."""
    solution: Tensor = apply(_Sylvester, S, C, basis, values)
    return solution


class _Root(Function):
    """`S` (..., m, m) of `G` (..., m, n) and damping (..., 1, 1); eigenvectors and eigenvalues.

    The last two carry no derivative. Without full rank they, and `S`, are NaN.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(G: Tensor, damping: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        basis, values, _ = torch.linalg.svd(G, full_matrices=False)
        noise = G.shape[-1] * torch.finfo(G.dtype).eps * values[..., :1]
        values = torch.hypot(values, damping[..., 0])
        values = torch.where(values > noise, values, torch.nan)
        return (basis * values[..., None, :]) @ basis.mT, basis, values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[0], *output)
        ctx.save_for_forward(inputs[0], *output)

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, None]:
        if by[0] is None:
            return None, None
        G, S, basis, values = ctx.saved_tensors
        X = _sylvester(S, by[0], basis, values)
        return (X + X.mT) @ G, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, None, None]:
        G, S, basis, values = ctx.saved_tensors
        dG = tangents[0]
        return _sylvester(S, dG @ G.mT + G @ dG.mT, basis, values), None, None


class _Sylvester(Function):
    """The solution of `S X + X S = C`, with the eigenvectors and eigenvalues of `S`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(S: Tensor, C: Tensor, basis: Tensor, values: Tensor) -> Tensor:
        sums = values[..., :, None] + values[..., None, :]
        return basis @ ((basis.mT @ C @ basis) / sums) @ basis.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        S, _, basis, values = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(S, basis, values, output)
        ctx.save_for_forward(S, basis, values, output)

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, ...]:
        if by[0] is None:
            return None, None, None, None
        S, basis, values, X = ctx.saved_tensors
        by_C = _sylvester(S, by[0], basis, values)
        return -(by_C @ X.mT + X.mT @ by_C), by_C, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        S, basis, values, X = ctx.saved_tensors
        dS, dC = tangents[:2]
        terms = [] if dC is None else [dC]
        if dS is not None:
            terms.append(-(dS @ X + X @ dS))
        return _sylvester(S, torch.stack(terms).sum(0), basis, values)
