"""Selection of the backend that serves a call."""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import architecture, select_backend_name
from memsolve_kernels.matrix_sign.direct_backend import DirectBackend
from memsolve_kernels.matrix_sign.interface import MatrixSignBackend
from memsolve_kernels.matrix_sign.newton_schulz import NewtonSchulzBackend
from memsolve_kernels.matrix_sign.reference import ReferenceBackend
from memsolve_kernels.matrix_sign.settings import Settings
from memsolve_kernels.matrix_sign.torch_backend import TorchBackend


def select_backend(matrix: Tensor, settings: Settings) -> MatrixSignBackend:
    """The backend of the settings, or by default the best for the device of the matrix.

    On a CPU that is a decomposition, unless a setting requires an iteration.

    Raises:
        BackendError: the backend cannot honour the settings.
    """
    default = settings.backend is None and settings.dtype == matrix.dtype
    backend: MatrixSignBackend
    if default and not settings.requires_iteration and matrix.device.type == "cpu":
        backend = DirectBackend()
    elif settings.backend == "reference":
        backend = ReferenceBackend()
    else:
        return select_iteration(matrix, settings)
    backend.check(settings, matrix.device)
    return backend


def select_iteration(matrix: Tensor, settings: Settings) -> NewtonSchulzBackend:
    """Like `select_backend`, but only among the backends that iterate."""
    row = architecture(matrix.device) if settings.dtype != torch.float64 else None
    has_kernel = row is not None
    name = select_backend_name(settings.backend, matrix, settings.dtype, has_kernel=has_kernel)
    backend: NewtonSchulzBackend = TorchBackend()
    if row is not None and name == "triton":
        from memsolve_kernels.matrix_sign.triton_backend import (  # needs the package
            KernelProducts,
            TritonBackend,
        )

        kernels = KernelProducts(row.preset_arch, settings.precision)
        backend = TritonBackend(kernels, everywhere=settings.backend == "triton")
    backend.check(settings, matrix.device)
    return backend
