"""The public functions: the matrix sign, and the sign with a certificate."""

import torch
from torch import Tensor

from memsolve_kernels.arguments import whole
from memsolve_kernels.dispatch import Backend, Precision
from memsolve_kernels.errors import BackendError, ShapeError
from memsolve_kernels.matrix_sign.backends import choose_iteration
from memsolve_kernels.matrix_sign.certificate import Certificate, certificate
from memsolve_kernels.matrix_sign.checks import check, check_finite
from memsolve_kernels.matrix_sign.newton_schulz import check_converged, fold
from memsolve_kernels.matrix_sign.ops import as_numbers, sign, traced_sign
from memsolve_kernels.matrix_sign.polynomials import Schedule, named
from memsolve_kernels.matrix_sign.settings import settings_for
from memsolve_kernels.modes import is_traced


def matrix_sign(
    matrix: Tensor,
    damping: float = 0.0,
    *,
    steps: int | None = None,
    schedule: Schedule | str | None = None,
    dtype: torch.dtype | None = None,
    precision: Precision | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """The damped matrix sign `(G G^T + damping^2 I)^(-1/2) G`, Muon's update of a gradient `G`.

    On singular values it is `h(z) = z / sqrt(z^2 + damping^2)`; without damping, the polar factor:
    every singular value becomes one. Zero gives zero.

    By default singular values are resolved down to a lower bound relative to the Frobenius norm:
    the spacing of the dtype at one, twice its unit roundoff (`1.2e-7` in float32, `9.8e-4` in
    float16, `7.8e-3` in bfloat16), and `1e-10` in float64. What lies below ends between zero and
    one, in proportion. So rounding, which changes a matrix by at most half of the bound in the
    Frobenius norm, adds at most 1/2 to a sign whose own norm is `sqrt(rank)`: of a gradient of any
    rank the default amplifies signal, not noise. Where it is larger, the bound follows from the
    damping (an iteration reads that, and waits for a GPU: give a schedule to avoid it, in a CUDA
    graph for example), or from `dtype`, if it is coarser than the matrix's: down to `1e-7`
    (float32), `1e-5` (float16) or `1e-4` (bfloat16) of the largest singular value of an exact
    matrix, and in one of low rank, what that dtype rounds is then amplified.

    A decomposition takes all above the bound to their sign within four roundings, but for what
    rounding adds; an iteration those above eight times the bound, and what lies between to at least
    0.4. Pass `schedule=minimax(lower, error)` for another bound or error, which holds for any
    matrix, relative to its largest singular value.

    On a GPU the sign is taken by a Newton-Schulz iteration. On a CPU a decomposition is faster, and
    the default, unless an iteration is asked for: by `steps`, `schedule`, `dtype` other than the
    matrix's, `precision` or `backend="torch"`.

    Under `torch.compile`, `torch.export` and `torch.func.vmap`, of a FakeTensor and on the meta
    device it is one operator, which looks at the values, and for its backend, when it runs.

    Args:
        matrix: (..., m, n), dense, float64, float32, float16 or bfloat16, on any device. Not
            modified; no gradient flows through the result: a constant to `backward`.
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
        NonFiniteError: NaN or infinity in the matrix, or a diverging schedule (on a CPU; elsewhere
            the result then contains NaN, and `certify` raises).
        BackendError: a choice of backend or precision that cannot be honoured.
        NotImplementedError: forward mode or `torch.func` differentiates by the matrix.

    Source: Kim et al. 2026 (arXiv 2603.26554) for `h`; Amsel et al. 2025 (arXiv 2505.16932) for the
    schedule.
    """
    check(matrix, damping, schedule, dtype, precision, backend)
    given, steps = named(schedule), None if steps is None else whole("steps", steps, 1)
    if not is_traced(matrix):
        return sign(matrix, settings_for(matrix, damping, steps, given, dtype, precision), backend)
    numbers = as_numbers(given)
    traced: Tensor = traced_sign(
        matrix.detach(), float(damping), steps, numbers, dtype, precision, backend
    )
    return traced


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
    """`matrix_sign` by an iteration, with the residuals of the polar equation, taken in float64.

    Takes the arguments of `matrix_sign` and raises its errors, on every device (so it waits for a
    GPU). Costs two products in float64 more, about `4 m^2 (m + n)` flops for m <= n.

    Raises:
        NonFiniteError: NaN or infinity in the matrix, or a schedule that diverged.
        BackendError: `backend="reference"`, whose SVD needs no certificate.
    """
    if backend == "reference":
        raise BackendError("backend='reference' is the truth; certify an iteration instead")
    check(matrix, damping, schedule, dtype, precision, backend)
    if is_traced(matrix):
        raise BackendError(
            "matrix has no values to certify: it is traced (torch.compile, torch.export or "
            "torch.func), a FakeTensor, or on the meta device; call certify outside"
        )
    settings = settings_for(matrix, damping, steps, named(schedule), dtype, precision)
    if matrix.numel() == 0:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}: nothing to certify")
    check_finite(matrix)
    chosen = choose_iteration(backend, matrix, settings)
    with torch.autocast(matrix.device.type, enabled=False):
        polar = chosen.polar(fold(matrix), settings)
        check_converged(polar)
        return certificate(polar, matrix, settings.damping)
