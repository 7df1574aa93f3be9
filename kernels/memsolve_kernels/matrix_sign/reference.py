"""The definition of the matrix sign by a singular value decomposition: ground truth for tests."""

import torch
from torch import Tensor

from memsolve_kernels.errors import BackendError
from memsolve_kernels.matrix_sign.interface import MatrixSignBackend
from memsolve_kernels.matrix_sign.settings import Settings


def matrix_sign(matrix: Tensor, damping: float = 0.0) -> Tensor:
    """`h_damping` on the singular values of `matrix` (..., m, n), computed in float64.

    `h_damping(z) = z / sqrt(z^2 + damping^2)`. Without damping, singular values below
    `max(m, n)` roundings of the largest count as zero and stay zero.
    """
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    if damping > 0:
        signs = values / torch.hypot(values, values.new_tensor(damping))
    else:
        noise = max(matrix.shape[-2:]) * torch.finfo(values.dtype).eps * values[..., :1]
        signs = (values > noise).to(values.dtype)
    sign: Tensor = (left * signs.unsqueeze(-2)) @ right
    return sign.to(matrix.dtype)


class ReferenceBackend(MatrixSignBackend):
    """The definition as a backend."""

    def check(self, settings: Settings, device: torch.device) -> None:
        """Reject settings that require an iteration."""
        if settings.requires_iteration:
            raise BackendError(
                "backend='reference' is an SVD: it takes no steps, schedule or precision"
            )

    def sign(self, matrix: Tensor, settings: Settings) -> Tensor:
        """The sign of `matrix` (..., m, n), rounded to the settings' dtype first."""
        return matrix_sign(_rounded(matrix, settings.dtype), settings.damping).to(settings.dtype)


def _rounded(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Round each matrix to the digits of `dtype`, at any scale; in float64.

    The unit is a power of two near the largest entry, so that none overflows.
    """
    exact = matrix.double()
    largest = exact.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(exact.dtype).tiny)
    unit = largest / (2 * torch.frexp(largest).mantissa)
    return (exact / unit).to(dtype).double() * unit
