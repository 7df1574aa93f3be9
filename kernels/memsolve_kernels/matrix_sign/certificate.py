"""How good a computed matrix sign is, measured after the fact by a few matrix-vector products."""

from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Backend, Precision
from memsolve_kernels.errors import BackendError, NonFiniteError, ShapeError
from memsolve_kernels.matrix_sign.api import check_matrix, fold, run, unfold
from memsolve_kernels.matrix_sign.newton_schulz import Pair, check_converged, normalise
from memsolve_kernels.matrix_sign.polynomials import Schedule

PROBES = 16
_KRYLOV = 3


class Certificate(NamedTuple):
    """How nearly the iteration's `P = [X, Y]` is the polar factor of `Z = [G, damping I]`.

    It is that factor exactly when its rows are orthonormal and `P Z^T` is symmetric positive
    semidefinite, that is, when the three residuals vanish. Each has the batch shape (...) of the
    matrix, in float64. Norms are estimates from `PROBES` random directions, within about a quarter,
    and exact for matrices whose smaller side is no larger than that.

    Attributes:
        sign: (..., m, n), what `matrix_sign` returns.
        orthogonality: `||P P^T - I||_F`, which bounds how far any squared singular value is from
            one; about `sqrt(k)` when `k` directions were not resolved.
        asymmetry: `||P Z^T - Z P^T||_F / (2 ||Z||_F)`.
        negativity: how far the spectrum of `P Z^T` reaches below zero, over `||Z||_F`, as far as
            Ritz values from a short block Krylov space see it: at most the true value.
    """

    sign: Tensor
    orthogonality: Tensor
    asymmetry: Tensor
    negativity: Tensor


@torch.no_grad()
def certify(
    matrix: Tensor,
    damping: float = 0.0,
    *,
    steps: int | None = None,
    schedule: Schedule | str | None = None,
    dtype: torch.dtype | None = None,
    precision: Precision | None = None,
    backend: Backend | None = None,
) -> Certificate:
    """`matrix_sign` with the residuals of the polar equation, taken in float64.

    Takes the arguments of `matrix_sign` and raises its errors, on every device (so it waits for a
    GPU). Costs about `32 PROBES m n` flops more. The directions are the same in every call.

    Raises:
        NonFiniteError: NaN or infinity in the matrix, or a schedule that diverged.
        BackendError: `backend="reference"`, whose SVD needs no certificate.
    """
    check_matrix(matrix)
    if matrix.numel() == 0:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}: nothing to certify")
    if not matrix.isfinite().all():
        raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")
    if backend == "reference":
        raise BackendError("backend='reference' is the truth; certify an iteration instead")
    result = run(matrix, damping, steps, schedule, dtype, precision, backend)
    check_converged(result)
    with torch.autocast(matrix.device.type, enabled=False):
        residuals = _residuals(result, normalise(fold(matrix).double(), float(damping))[0])
    sign = unfold(result.X, matrix).to(matrix.dtype)
    return Certificate(sign, *(each.reshape(matrix.shape[:-2]) for each in residuals))


def _residuals(sign: Pair, scaled: Pair) -> tuple[Tensor, Tensor, Tensor]:
    P, Z = _joined(sign), _joined(scaled)
    batch, m, _ = P.shape
    size = torch.linalg.matrix_norm(Z).clamp(min=torch.finfo(Z.dtype).tiny)
    V = _directions(m, P)
    to_full = (m / V.shape[-1]) ** 0.5
    spread, sheared = P @ (P.mT @ V) - V, P @ (Z.mT @ V) - Z @ (P.mT @ V)

    def polar(V: Tensor) -> Tensor:
        return (P @ (Z.mT @ V) + Z @ (P.mT @ V)) / 2

    space = [V.expand(batch, -1, -1)]
    for _ in range(_KRYLOV - 1 if V.shape[-1] < m else 0):
        space.append(torch.linalg.qr(polar(space[-1])).Q)
    basis = torch.linalg.qr(torch.cat(space, dim=-1)).Q
    ritz = basis.mT @ polar(basis)
    smallest = torch.linalg.eigvalsh((ritz + ritz.mT) / 2)[:, 0]
    return (
        to_full * torch.linalg.matrix_norm(spread),
        to_full * torch.linalg.matrix_norm(sheared) / (2 * size),
        (-smallest).clamp(min=0) / size,
    )


def _directions(size: int, like: Tensor) -> Tensor:
    """Orthonormal random directions (size, at most `PROBES`): all of a small space."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(size, min(size, PROBES), generator=generator, dtype=like.dtype)
    orthonormal: Tensor = torch.linalg.qr(directions).Q
    return orthonormal.to(like.device)


def _joined(pair: Pair) -> Tensor:
    blocks = [pair.X] if pair.Y is None else [pair.X, pair.Y]
    return torch.cat([block.double() for block in blocks], dim=-1)
