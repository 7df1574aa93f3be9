"""The accuracy of a computed matrix sign, measured by two products in float64."""

from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.matrix_sign.scaling import Pair, fold, normalise, unfold

PROBES = 16
_KRYLOV = 3


class Certificate(NamedTuple):
    """The distance of the iteration's `P = [X, Y]` from the polar factor of `Z = [G, damping I]`.

    It is that factor exactly when its rows are orthonormal and `P Z^T` is symmetric positive
    semidefinite, that is, when the three residuals vanish. Each has the batch shape (...) of the
    matrix, in float64. The norms are those of the matrices themselves, up to rounding in float64,
    so that a single unresolved direction is visible.

    Attributes:
        sign: (..., m, n), as `matrix_sign` returns it from that iteration.
        orthogonality: `||P P^T - I||_F`, a bound on the distance of any squared singular value from
            one; about `sqrt(k)` for `k` unresolved directions.
        asymmetry: `||P Z^T - Z P^T||_F / (2 ||Z||_F)`.
        negativity: minus the smallest eigenvalue of `P Z^T`, if negative, over `||Z||_F`. It is
            estimated by Ritz values from a short block Krylov space of `PROBES` fixed directions:
            a lower bound, and exact if the smaller side is at most `PROBES`.
    """

    sign: Tensor
    orthogonality: Tensor
    asymmetry: Tensor
    negativity: Tensor


def certificate(polar: Pair, matrix: Tensor, damping: float) -> Certificate:
    """The certificate of an iteration's result for `matrix` (..., m, n), which is not empty."""
    residuals = estimates(polar, normalise(fold(matrix), damping, torch.float64)[0])
    sign = unfold(polar.X, matrix).to(matrix.dtype)
    return Certificate(sign, *(each.reshape(matrix.shape[:-2]) for each in residuals))


def estimates(polar: Pair, scaled: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """The three residuals (k,) of `P = polar` against `Z = scaled`."""
    P, Z = _joined(polar), _joined(scaled)
    batch, m, _ = P.shape
    size = torch.linalg.matrix_norm(Z).clamp(min=torch.finfo(Z.dtype).tiny)
    product = P @ Z.mT
    spread = P @ P.mT - torch.eye(m, dtype=P.dtype, device=P.device)
    sheared, factor = product - product.mT, (product + product.mT) / 2
    V = _directions(m, P)
    space = [V.expand(batch, -1, -1)]
    for _ in range(_KRYLOV - 1 if V.shape[-1] < m else 0):
        space.append(torch.linalg.qr(factor @ space[-1]).Q)
    basis = torch.linalg.qr(torch.cat(space, dim=-1)).Q
    ritz = basis.mT @ (factor @ basis)
    smallest = torch.linalg.eigvalsh((ritz + ritz.mT) / 2)[:, 0]
    return (
        torch.linalg.matrix_norm(spread),
        torch.linalg.matrix_norm(sheared) / (2 * size),
        (-smallest).clamp(min=0) / size,
    )


def _directions(size: int, like: Tensor) -> Tensor:
    """Orthonormal random directions (size, at most `PROBES`): all of a small space."""
    generator = torch.Generator("cpu").manual_seed(0)  # whatever torch's default device is
    directions = torch.randn(
        size, min(size, PROBES), generator=generator, dtype=like.dtype, device="cpu"
    )
    orthonormal: Tensor = torch.linalg.qr(directions).Q
    return orthonormal.to(like.device)


def _joined(pair: Pair) -> Tensor:
    blocks = [pair.X] if pair.Y is None else [pair.X, pair.Y]
    return torch.cat([block.double() for block in blocks], dim=-1)
