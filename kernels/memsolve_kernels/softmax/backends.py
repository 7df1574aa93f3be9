"""Which backend serves a call."""

import torch
from torch import Tensor

from memsolve_kernels.architectures import architecture
from memsolve_kernels.dispatch import check_precision, choose_backend, honours
from memsolve_kernels.errors import BackendError
from memsolve_kernels.softmax.passes import Passes, accumulation_dtype
from memsolve_kernels.softmax.reference import ReferenceBackend
from memsolve_kernels.softmax.torch_backend import TorchBackend


def choose(queries: Tensor, backend: str | None, precision: str | None) -> Passes:
    """The backend and precision asked for, or for None the best for the queries.

    Raises:
        BackendError: an unknown name, or a choice that cannot be honoured here.
    """
    check_precision(precision)  # type: ignore[arg-type]  # until here any string
    arch = None if queries.dtype == torch.float64 else architecture(queries.device)
    choice = choose_backend(backend, queries, triton=arch is not None)  # type: ignore[arg-type]
    if choice == "triton" and precision is not None and queries.dtype != torch.float32:
        raise BackendError(
            f"precision={precision!r} is for float32 inputs; products of {queries.dtype} "
            "are exact: use precision=None"
        )
    sums = accumulation_dtype(queries.dtype)
    if choice != "triton" and precision not in (None, "ieee"):
        raise BackendError(
            f"precision={precision!r} needs backend='triton'; backend={choice!r} computes in {sums}"
        )
    if choice != "triton" and precision == "ieee" and not honours(sums, queries.device, "ieee"):
        raise BackendError(
            f"precision='ieee' cannot be honoured by backend={choice!r}: torch's fp32_precision or "
            "set_float32_matmul_precision allows less here; reset it, or use precision=None"
        )
    if arch is not None and choice == "triton" and queries.shape[0] > 0:
        from memsolve_kernels.softmax.triton_backend import TritonBackend  # needs the package

        return TritonBackend(arch.presets, precision or "ieee")
    return ReferenceBackend() if choice == "reference" else TorchBackend()
