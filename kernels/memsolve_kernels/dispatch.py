"""The vocabulary of `backend` and `precision`, shared by every kernel family."""

import importlib.util
import os
from typing import Literal, get_args

import torch
from torch import Tensor

from memsolve_kernels.errors import BackendError

Backend = Literal["reference", "torch", "triton"]
Precision = Literal["ieee", "tf32x3", "tf32"]


def choose_backend(backend: Backend | None, tensor: Tensor, *, triton: bool) -> Backend:
    """The backend that runs: `backend` if it can be honoured, else the best for the device.

    Args:
        backend: an explicit choice, or None.
        tensor: an input of the call; its device decides.
        triton: whether the family has a Triton kernel for this call.

    Raises:
        BackendError: an unknown name, or an explicit choice that cannot run here.
    """
    check_backend(backend)
    if backend is None:
        return "triton" if triton and tensor.is_cuda and _triton_runs_on(tensor) else "torch"
    if backend == "triton":
        if not triton:
            raise BackendError(
                "backend='triton' has no kernel for this call; use backend=None or 'torch'"
            )
        if not _triton_runs_on(tensor):
            raise BackendError(
                f"backend='triton' cannot run on device {tensor.device}: it needs the triton "
                "package and a CUDA device (or TRITON_INTERPRET=1); use backend=None or 'torch'"
            )
    return backend


def check_backend(backend: Backend | None) -> None:
    """Raise BackendError unless `backend` is None or a known name."""
    if backend is not None and backend not in get_args(Backend):
        raise BackendError(f"backend is {backend!r}; expected None or one of {get_args(Backend)}")


def check_precision(precision: Precision | None) -> None:
    """Raise BackendError unless `precision` is None or in Triton's input_precision vocabulary."""
    if precision is not None and precision not in get_args(Precision):
        raise BackendError(
            f"precision is {precision!r}; expected None or one of {get_args(Precision)}"
        )


def honours(dtype: torch.dtype, device: torch.device, precision: Precision | None) -> bool:
    """Whether torch's products are as precise as asked; its settings decide on float32."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    ieee = backend.matmul.fp32_precision in ("ieee", "none")
    return dtype != torch.float32 or (precision in (None, "ieee") and ieee)


def _triton_runs_on(tensor: Tensor) -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return tensor.is_cuda or (interpreted and tensor.device == torch.device("cpu"))
