"""The public functions: the matrix sign, and the sign with a certificate."""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.errors import BackendError, ShapeError
from memsolve_kernels.matrix_sign.autograd import differentiable_sign
from memsolve_kernels.matrix_sign.backends import select_iteration
from memsolve_kernels.matrix_sign.certificate import Certificate, certificate
from memsolve_kernels.matrix_sign.checks import (
    check_finite,
    differentiates_by,
    parse_settings,
)
from memsolve_kernels.matrix_sign.newton_schulz import check_converged
from memsolve_kernels.matrix_sign.polynomials import Schedule
from memsolve_kernels.matrix_sign.scaling import fold
from memsolve_kernels.modes import is_traced


def matrix_sign(
    matrix: Tensor,
    damping: float = 0.0,
    *,
    steps: int | None = None,
    schedule: Schedule | str | None = None,
    dtype: torch.dtype | None = None,
    precision: Precision | None = None,
    backend: BackendName | None = None,
) -> Tensor:
    """The damped matrix sign `(G G^T + damping^2 I)^(-1/2) G`, Muon's update of a gradient `G`.

    On singular values it is `h(z) = z / sqrt(z^2 + damping^2)`; without damping, the polar factor:
    every singular value becomes one. Zero gives zero.

    By default singular values are resolved down to a lower bound relative to the Frobenius norm:
    the spacing of the dtype at one, which is twice its unit roundoff (`1.2e-7` in float32, `9.8e-4`
    in float16, `7.8e-3` in bfloat16), and `1e-10` in float64. Smaller ones end between zero and
    one, in proportion. Rounding changes a matrix by at most half of the bound in the Frobenius
    norm, and so adds at most 1/2 to a sign whose norm is `sqrt(rank)`: for a gradient of any rank
    the default amplifies signal, not noise. The bound is larger with damping (an iteration reads it
    from the GPU, and waits; pass a schedule to avoid this, for example in a CUDA graph), and for a
    `dtype` coarser than the matrix's: `1e-7` (float32), `1e-5` (float16) or `1e-4` (bfloat16) of
    the largest singular value. Then rounding in a matrix of low rank is amplified.

    A decomposition takes singular values above the bound to their sign within four roundings, plus
    the effect of rounding in the matrix. An iteration does so above eight times the bound; those in
    between end at 0.4 or more. Pass `schedule=minimax(lower, error)` for another bound or error,
    relative to the largest singular value, which holds for any matrix.

    On a GPU the sign is computed by a Newton-Schulz iteration. On a CPU a decomposition is faster,
    and the default, unless an argument requires an iteration: `steps`, `schedule`, a `dtype` other
    than the matrix's, `precision` or `backend="torch"`.

    Under `torch.compile`, `torch.export` and `torch.func.vmap`, for a FakeTensor and on the meta
    device it is one operator, which selects its backend and reads values when it runs.

    Derivatives are those of the exact sign `h(G)`, whatever schedule computes it, in float64: of
    any order in backward mode, and once in forward mode. They need a singular value decomposition,
    and without damping a matrix of full rank. `torch.compile` takes `backward`, and breaks the
    graph at `torch.func.grad` and the like.

    Args:
        matrix: (..., m, n), dense, float64, float32, float16 or bfloat16, on any device. Not
            modified.
        damping: `lambda`, in the units of the matrix.
        steps: number of steps, a prefix of the schedule or its last step repeated (default: all).
        schedule: a `Schedule`, the name of one in `STOCK`, or None for the minimax quintic.
        dtype: to iterate in, after scaling (default: the matrix's).
        precision: of float32 products, `"ieee"`, `"tf32x3"` or `"tf32"` (default: the backend's).
        backend: `"reference"` (the definition), `"torch"` or `"triton"` (iterations), or None for
            the best on the device.

    Returns:
        The sign, of the matrix's shape, dtype and device.

    Raises:
        ShapeError, DtypeError, RangeError: an argument that cannot be used.
        NonFiniteError: NaN or infinity in the matrix, or a diverging schedule (on a CPU; on other
            devices the result contains NaN instead, and `certify` raises).
        BackendError: a choice of backend or precision that cannot be honoured.
        NotImplementedError: forward mode twice, or a derivative of `torch.func` within
            `torch.compile(fullgraph=True)`. By `backward`: RangeError without damping for a matrix
            without full rank.

    Source: Kim et al. 2026 (arXiv 2603.26554) for `h`; Amsel et al. 2025 (arXiv 2505.16932) for the
    schedule.
    """
    settings = parse_settings(matrix, damping, steps, schedule, dtype, precision, backend)
    return differentiable_sign(matrix, settings)


@torch.no_grad()
def certify(
    matrix: Tensor,
    damping: float = 0.0,
    *,
    steps: int | None = None,
    schedule: Schedule | str | None = None,
    dtype: torch.dtype | None = None,
    precision: Precision | None = None,
    backend: BackendName | None = None,
) -> Certificate:
    """`matrix_sign` by an iteration, with the residuals of the polar equation in float64.

    Takes the arguments of `matrix_sign` and raises its errors, on every device (so it waits for a
    GPU). Needs two more products in float64, about `4 m^2 (m + n)` flops for m <= n.

    Raises:
        NonFiniteError: NaN or infinity in the matrix, or a schedule that diverged.
        BackendError: `backend="reference"`, whose SVD needs no certificate.
        NotImplementedError: the matrix is differentiated by forward mode or `torch.func`.
    """
    if backend == "reference":
        raise BackendError("backend='reference' is the definition; certify an iteration instead")
    settings = parse_settings(matrix, damping, steps, schedule, dtype, precision, backend)
    if differentiates_by(matrix):
        raise NotImplementedError(
            "a certificate has no derivative: pass matrix.detach() to treat it as a constant"
        )
    if is_traced(matrix):
        raise BackendError(
            "matrix has no values to certify: it is traced (torch.compile, torch.export or "
            "torch.func), a FakeTensor, or on the meta device; call certify outside"
        )
    if matrix.numel() == 0:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}: nothing to certify")
    check_finite(matrix)
    iteration = select_iteration(matrix, settings)
    with torch.autocast(matrix.device.type, enabled=False):
        polar = iteration.polar(fold(matrix), settings)
        check_converged(polar)
        return certificate(polar, matrix, settings.damping)
