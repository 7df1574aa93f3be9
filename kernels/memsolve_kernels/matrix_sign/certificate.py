"""Proof after the fact that a computed matrix sign is one."""

from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Backend, Precision
from memsolve_kernels.errors import BackendError, NonFiniteError, ShapeError
from memsolve_kernels.matrix_sign.newton_schulz import Pair, check_converged, normalise
from memsolve_kernels.matrix_sign.polynomials import Schedule
from memsolve_kernels.matrix_sign.sign import check_input, fold, run, unfold


class Certificate(NamedTuple):
    """How nearly the iteration's `P = [X, Y]` is the polar factor of `Z = [G, damping I]`.

    It is that factor exactly when its rows are orthonormal and `P Z^T` is symmetric positive
    semidefinite, that is, when the three residuals vanish. Each has the batch shape (...) of the
    matrix, in float64.

    Attributes:
        sign: (..., m, n), what `matrix_sign` returns.
        orthogonality: `||P P^T - I||_F`, which bounds how far any squared singular value is from
            one; about `sqrt(k)` when `k` directions were not resolved.
        asymmetry: `||P Z^T - Z P^T||_F / (2 ||Z||_F)`.
        negativity: how far the spectrum of `P Z^T` reaches below zero, over `||Z||_F`.
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
    precision: Precision | None = None,
    backend: Backend | None = None,
) -> Certificate:
    """`matrix_sign` with the residuals of the polar equation, taken in float64.

    Takes the arguments of `matrix_sign` and raises its errors, on every device (so it waits for a
    GPU). Costs three products and an eigenvalue decomposition more.

    Raises:
        NonFiniteError: NaN or infinity in the matrix, or a schedule that diverged.
        BackendError: `backend="reference"`, whose SVD needs no certificate.
    """
    check_input(matrix, damping)
    if matrix.numel() == 0:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}: nothing to certify")
    if not matrix.isfinite().all():
        raise NonFiniteError("matrix contains NaN or infinity; expected finite entries")
    if backend == "reference":
        raise BackendError("backend='reference' is the truth; certify an iteration instead")
    result = run(matrix, damping, steps, schedule, precision, backend)
    check_converged(result)
    P = _joined(result)
    Z = _joined(normalise(fold(matrix).double(), damping)[0])
    identity = torch.eye(P.shape[-2], dtype=P.dtype, device=P.device)
    polar = P @ Z.mT
    size = torch.linalg.matrix_norm(Z).clamp(min=torch.finfo(Z.dtype).tiny)
    smallest = torch.linalg.eigvalsh((polar + polar.mT) / 2)[:, 0]
    residuals = (
        torch.linalg.matrix_norm(P @ P.mT - identity),
        torch.linalg.matrix_norm(polar - polar.mT) / (2 * size),
        (-smallest).clamp(min=0) / size,
    )
    batch = matrix.shape[:-2]
    return Certificate(unfold(result.X, matrix), *(each.reshape(batch) for each in residuals))


def _joined(pair: Pair) -> Tensor:
    blocks = [pair.X] if pair.Y is None else [pair.X, pair.Y]
    return torch.cat([block.double() for block in blocks], dim=-1)
