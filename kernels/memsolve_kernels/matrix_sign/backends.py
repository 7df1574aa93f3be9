"""What a backend of the matrix sign offers, and which one serves a call."""

from typing import Protocol

import torch
from torch import Tensor

from memsolve_kernels import dispatch
from memsolve_kernels.architectures import architecture
from memsolve_kernels.matrix_sign.direct_backend import DirectBackend
from memsolve_kernels.matrix_sign.newton_schulz import Iteration
from memsolve_kernels.matrix_sign.reference import ReferenceBackend
from memsolve_kernels.matrix_sign.settings import Settings
from memsolve_kernels.matrix_sign.torch_backend import TorchBackend


class Backend(Protocol):
    """A way to the matrix sign."""

    def check(self, settings: Settings, device: torch.device) -> None:
        """Raise BackendError unless it can do what is asked on that device."""

    def sign(self, matrix: Tensor, settings: Settings) -> Tensor:
        """The sign of `matrix` (..., m, n), not empty, in a dtype of the backend's choice."""


def choose(name: dispatch.Backend | None, matrix: Tensor, settings: Settings) -> Backend:
    """The backend of that name, or the best for the device of the matrix.

    On a CPU that is a decomposition, unless something is asked of an iteration.

    Raises:
        BackendError: that backend cannot do what is asked.
    """
    free = name is None and not settings.of_an_iteration and settings.dtype == matrix.dtype
    chosen: Backend
    if free and matrix.device.type == "cpu":
        chosen = DirectBackend()
    elif name == "reference":
        chosen = ReferenceBackend()
    else:
        return choose_iteration(name, matrix, settings)
    chosen.check(settings, matrix.device)
    return chosen


def choose_iteration(
    name: dispatch.Backend | None, matrix: Tensor, settings: Settings
) -> Iteration:
    """`choose` among the backends that iterate; the reference does not."""
    row = architecture(matrix.device) if settings.dtype != torch.float64 else None
    chosen = dispatch.choose_backend(name, matrix, triton=row is not None)
    iteration: Iteration = TorchBackend()
    if row is not None and chosen == "triton":
        # Imported here, since torch's own products do without the triton package.
        from memsolve_kernels.matrix_sign.triton_backend import KernelProducts, TritonBackend

        kernels = KernelProducts(row, settings.precision)
        iteration = TritonBackend(kernels, everywhere=name == "triton")
    iteration.check(settings, matrix.device)
    return iteration
