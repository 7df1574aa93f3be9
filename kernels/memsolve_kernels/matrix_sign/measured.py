"""Opt-in dispatch by measurement: which of kernel and BLAS is right, and faster, on this device."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import triton.testing
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.errors import BackendError
from memsolve_kernels.matrix_sign import torch_backend
from memsolve_kernels.matrix_sign.presets import Kind, find, input_precision, kind_of
from memsolve_kernels.matrix_sign.triton_kernels import symmetric, update

Product = Literal["symmetric", "update"]
Winner = Literal["kernel", "blas"]
Timer = Callable[[Callable[[], object]], float]
_Key = tuple[Product, Kind, torch.dtype, torch.Size, torch.device]
_winners: dict[_Key, Winner] = {}


class Measurement(NamedTuple):
    """Kernel against BLAS on one product; times in milliseconds, errors relative to float64."""

    product: Product
    kernel_ms: float
    blas_ms: float
    kernel_error: float
    blas_error: float
    winner: Winner


def winner(product: Product, kind: Kind, X: Tensor) -> Winner | None:
    """Who won on this product, shape, dtype and device in this process; None if not measured."""
    return _winners.get((product, kind, X.dtype, X.shape, X.device))


def measure(
    matrix: Tensor,
    *,
    precision: Precision | None = None,
    timer: Timer | None = None,
) -> list[Measurement]:
    """Time both and let `matrix_sign` use the faster from now on, for matrices like this one.

    Numerics come first: a kernel whose error is above twice that of BLAS (or two roundings) loses
    whatever its speed. Only `backend=None` looks at the outcome, which lasts for the process.

    Args:
        matrix: (..., m, n), float32, float16 or bfloat16, on the device; only its shape, dtype and
            device matter.
        precision: of float32 products: None or `"ieee"`, since BLAS offers no other.
        timer: milliseconds of a call (default: Triton's, which needs a GPU).

    Raises:
        BackendError: only one of the two offers the dtype and precision, or there is no GPU.
    """
    if matrix.dtype == torch.float64 or not torch_backend.honours(
        matrix.dtype, matrix.device, precision
    ):
        raise BackendError(
            f"nothing to choose for {matrix.dtype} with precision={precision!r}: only one of the "
            "kernels and BLAS offers it"
        )
    if timer is None:
        if not matrix.is_cuda:
            raise BackendError(f"matrix is on {matrix.device}; kernels are timed on a CUDA device")
        timer = triton.testing.do_bench
    kind = kind_of(matrix.dtype, precision)
    m, n = sorted(matrix.shape[-2:])
    generator = torch.Generator(matrix.device).manual_seed(0)
    X = torch.randn(
        matrix.shape[:-2].numel(), m, n, device=matrix.device, generator=generator
    ).div_(n**0.5)
    X = X.to(matrix.dtype)
    B = torch_backend.symmetric(X, X)
    preset, how = find(kind, X.device), input_precision(kind)
    exact = X.double() @ X.double().mT
    return [
        _contest(
            ("symmetric", kind, X.dtype, X.shape, X.device),
            lambda: symmetric.symmetric(X, X, 1.0, None, 0.0, preset.symmetric, how),
            lambda: torch_backend.symmetric(X, X),
            exact,
            timer,
        ),
        _contest(
            ("update", kind, X.dtype, X.shape, X.device),
            lambda: update.update(X, B, 1.0, preset.update, how),
            lambda: torch_backend.update(X, B, 1.0),
            X.double() + B.double() @ X.double(),
            timer,
        ),
    ]


def _contest(
    key: _Key,
    kernel: Callable[[], Tensor],
    by_blas: Callable[[], Tensor],
    exact: Tensor,
    timer: Timer,
) -> Measurement:
    kernel_error, blas_error = (
        float((product().double() - exact).norm() / exact.norm()) for product in (kernel, by_blas)
    )
    kernel_ms, blas_ms = timer(kernel), timer(by_blas)
    correct = kernel_error <= max(2 * blas_error, 2 * torch.finfo(key[2]).eps)
    _winners[key] = "kernel" if correct and kernel_ms < blas_ms else "blas"
    return Measurement(key[0], kernel_ms, blas_ms, kernel_error, blas_error, _winners[key])
