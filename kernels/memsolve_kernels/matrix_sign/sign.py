"""`matrix_sign`, the public function: checks its arguments, chooses a backend, runs it."""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Backend, Precision, check_precision, choose_backend
from memsolve_kernels.errors import BackendError, DtypeError, RangeError, ShapeError
from memsolve_kernels.matrix_sign import blas, newton_schulz, reference
from memsolve_kernels.matrix_sign.newton_schulz import Pair
from memsolve_kernels.matrix_sign.polynomials import STOCK, Schedule

_MAX_DAMPING = torch.finfo(torch.float32).max


@torch.no_grad()
def matrix_sign(
    matrix: Tensor,
    damping: float = 0.0,
    *,
    steps: int | None = None,
    schedule: Schedule | str | None = None,
    precision: Precision | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """The damped matrix sign `(G G^T + damping^2 I)^(-1/2) G`, Muon's update of a gradient `G`.

    On singular values it is `h(z) = z / sqrt(z^2 + damping^2)`; without damping, the polar factor:
    every singular value becomes one. Zero gives zero.

    The default schedule resolves singular values down to a lower bound relative to the largest.
    With damping the bound follows from it and holds for any matrix (reading it waits for a GPU:
    give a schedule to avoid that, in a CUDA graph for example). Without, it is `1e-12` in float64,
    `1e-7` in float32, `1e-5` in float16 and `1e-4` in bfloat16; pass `schedule=minimax(lower)` for
    another. Singular values below the bound end between zero and one.

    Args:
        matrix: (..., m, n), float64, float32, float16 or bfloat16, on any device. Not modified; no
            gradient flows through the result.
        damping: `lambda`, in the units of the matrix.
        steps: number of steps, a prefix of the schedule or its last step repeated (default: all).
        schedule: a `Schedule`, the name of one in `STOCK`, or None for the minimax quintic.
        precision: of float32 products, `"ieee"`, `"tf32x3"` or `"tf32"` (default: the backend's).
        backend: `"reference"` (SVD), `"torch"`, `"triton"`, or None for the best on the device.

    Returns:
        The sign, of the matrix's shape, dtype and device.

    Raises:
        ShapeError, DtypeError, RangeError: an argument that cannot be used.
        NonFiniteError: NaN or infinity in the matrix, or a diverging schedule (on a CPU; elsewhere
            the result then contains NaN, and `certify` raises).
        BackendError: a choice of backend or precision that cannot be honoured.

    Source: Kim et al. 2026 (arXiv 2603.26554) for `h`; Amsel et al. 2025 (arXiv 2505.16932) for the
    schedule.
    """
    check_input(matrix, damping)
    if backend == "reference":
        if (steps, schedule, precision) != (None, None, None):
            raise BackendError(
                "backend='reference' is an SVD: it takes no steps, schedule or precision"
            )
        return reference.matrix_sign(matrix, damping)
    if matrix.numel() == 0:
        return torch.zeros_like(matrix)
    return unfold(run(matrix, damping, steps, schedule, precision, backend).X, matrix)


def run(
    matrix: Tensor,
    damping: float,
    steps: int | None,
    schedule: Schedule | str | None,
    precision: Precision | None,
    backend: Backend | None,
) -> Pair:
    """Choose the backend and iterate; the result's blocks are folded (see `fold`)."""
    chosen = choose_backend(backend, matrix, triton=matrix.dtype != torch.float64)
    _check_precision(matrix, precision, chosen)
    folded = fold(matrix)
    if isinstance(schedule, str):
        schedule = _stock(schedule)
    if chosen == "triton":
        from memsolve_kernels.matrix_sign import fused  # needs the triton package

        with torch.cuda.device_of(folded):  # Triton launches on the current device
            return fused.run(folded, damping, schedule, steps, precision, backend == "triton")
    pair, schedule = newton_schulz.start(folded, damping, schedule, steps)
    return newton_schulz.iterate(pair, schedule, blas, matrix.dtype)


def fold(matrix: Tensor) -> Tensor:
    """(..., m, n) as one batch (k, min(m, n), max(m, n)): tall matrices are transposed."""
    rows, columns = matrix.shape[-2:]
    wide = matrix.mT.contiguous() if rows > columns else matrix
    return wide.reshape(-1, *wide.shape[-2:])


def unfold(folded: Tensor, matrix: Tensor) -> Tensor:
    """Undo `fold`: `folded` in the shape of `matrix`."""
    rows, columns = matrix.shape[-2:]
    return (folded.mT if rows > columns else folded).reshape(matrix.shape)


def check_input(matrix: Tensor, damping: float) -> None:
    """Raise unless `matrix_sign` can take these."""
    if matrix.ndim < 2:
        raise ShapeError(f"matrix has shape {tuple(matrix.shape)}; expected (..., m, n)")
    if matrix.dtype not in newton_schulz.DEFAULT_LOWER:
        names = ", ".join(str(dtype) for dtype in newton_schulz.DEFAULT_LOWER)
        raise DtypeError(f"matrix has dtype {matrix.dtype}; expected one of {names}")
    if not 0 <= damping < _MAX_DAMPING:
        raise RangeError(f"damping is {damping}; expected a number in [0, {_MAX_DAMPING:g})")


def _check_precision(matrix: Tensor, precision: Precision | None, backend: Backend) -> None:
    check_precision(precision)
    if precision is None:
        return
    if matrix.dtype not in (torch.float32, torch.float64):
        raise BackendError(
            f"precision={precision!r} was given for {matrix.dtype}; it applies to float32 products"
        )
    if (
        precision != "ieee"
        if matrix.dtype == torch.float64
        else not (backend == "triton" or blas.honours(matrix.dtype, precision))
    ):
        raise BackendError(
            f"backend={backend!r} cannot honour precision={precision!r} in {matrix.dtype} while "
            f"torch.get_float32_matmul_precision() is {torch.get_float32_matmul_precision()!r}: "
            "torch's own products are 'ieee', under 'highest'"
        )


def _stock(name: str) -> Schedule:
    if name not in STOCK:
        raise RangeError(f"schedule is {name!r}; expected a Schedule or one of {sorted(STOCK)}")
    return STOCK[name]
