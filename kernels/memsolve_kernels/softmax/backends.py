"""Selection of the backend that serves a call."""

import torch
from torch import Tensor

from memsolve_kernels.dispatch import architecture, check_precision, select_backend_name
from memsolve_kernels.softmax.interface import SoftmaxBackend
from memsolve_kernels.softmax.reference import ReferenceBackend
from memsolve_kernels.softmax.torch_backend import TorchBackend


def select_backend(queries: Tensor, name: str | None, precision: str | None) -> SoftmaxBackend:
    """The backend of this name and precision, or by default the best for the queries.

    Raises:
        BackendError: an unknown name, or a choice that cannot be honoured here.
    """
    check_precision(precision)  # type: ignore[arg-type]  # until here any string
    arch = None if queries.dtype == torch.float64 else architecture(queries.device)
    has_kernel = arch is not None
    name = select_backend_name(name, queries, queries.dtype, has_kernel=has_kernel)  # type: ignore[arg-type]
    backend: SoftmaxBackend = ReferenceBackend() if name == "reference" else TorchBackend()
    if arch is not None and name == "triton":
        from memsolve_kernels.softmax.triton_backend import TritonBackend  # needs the package

        backend = TritonBackend(arch.preset_arch, precision or "ieee")
    backend.check(queries.dtype, queries.device, precision)  # type: ignore[arg-type]
    return backend if queries.shape[0] > 0 else TorchBackend()
