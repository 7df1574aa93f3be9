"""The products of a Newton-Schulz step by torch's matrix multiplication, on any device.

On a CPU, symmetric products are computed block by block in the lower triangle and mirrored.
Float16, which CPUs multiply hundreds of times slower than float32, is multiplied in float32 and
rounded once per product, like on a GPU's tensor cores.
"""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import torch_honours
from memsolve_kernels.errors import BackendError
from memsolve_kernels.matrix_sign.newton_schulz import NewtonSchulzBackend
from memsolve_kernels.matrix_sign.settings import Settings

_BLOCK = 512


class TorchBackend(NewtonSchulzBackend):
    """The iteration with torch's products."""

    def check(self, settings: Settings, device: torch.device) -> None:
        """Reject a precision that torch's settings do not give."""
        precision, dtype = settings.precision, settings.dtype
        if precision is None or (precision == "ieee" and torch_honours(dtype, device, precision)):
            return
        raise BackendError(
            f"backend='torch' cannot honour precision={precision!r} in {dtype} on {device.type}: "
            "torch's own products are 'ieee', unless its fp32_precision or "
            "set_float32_matmul_precision allows less"
        )

    def symmetric(
        self, X: Tensor, Y: Tensor, alpha: float = 1.0, Z: Tensor | None = None, beta: float = 0.0
    ) -> Tensor:
        """`alpha X Y^T + beta Z` of `X`, `Y` (k, m, n) and `Z` (k, m, m), if symmetric."""
        if _multiplies_slowly(X):
            wide = None if Z is None else Z.float()
            return self.symmetric(X.float(), Y.float(), alpha, wide, beta).to(X.dtype)
        if Z is not None and not _worth_halving(X):
            return torch.baddbmm(Z, X, Y.mT, beta=beta, alpha=alpha)
        product = (_lower_triangle(X, Y) if _worth_halving(X) else X @ Y.mT).mul_(alpha)
        return product if Z is None else product.add_(Z, alpha=beta)

    def update(self, X: Tensor, B: Tensor, a: float) -> Tensor:
        """`a X + B X` of `X` (k, m, n) and `B` (k, m, m)."""
        if _multiplies_slowly(X):
            return self.update(X.float(), B.float(), a).to(X.dtype)
        return torch.baddbmm(X, B, X, beta=a)

    def rounding(self, X: Tensor) -> float:
        """That of the dtype, or of bfloat16 if torch may multiply float32 in lower precision."""
        ieee = torch_honours(X.dtype, X.device, "ieee")
        return torch.finfo(X.dtype if ieee else torch.bfloat16).eps


def _lower_triangle(X: Tensor, Y: Tensor) -> Tensor:
    """`X Y^T` from its lower triangle: 3/4 of the work with two blocks, half in the limit."""
    size = X.shape[-2]
    product = X.new_empty(*X.shape[:-1], size)
    for top in range(0, size, _BLOCK):
        rows = slice(top, top + _BLOCK)
        product[:, rows, : rows.stop] = X[:, rows] @ Y[:, : rows.stop].mT
        product[:, :top, rows] = product[:, rows, :top].mT
    return product


def _worth_halving(X: Tensor) -> bool:
    full_precision = X.dtype in (torch.float32, torch.float64)
    return X.device.type == "cpu" and full_precision and X.shape[-2] >= 2 * _BLOCK


def _multiplies_slowly(X: Tensor) -> bool:
    return X.device.type == "cpu" and X.dtype == torch.float16
