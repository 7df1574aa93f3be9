"""Names of backends and precisions, shared by both kernel families, and what a device supports."""

import importlib.util
import os
from typing import Literal, get_args

import torch
from torch import Tensor

from memsolve_kernels import architectures
from memsolve_kernels.architectures import Architecture
from memsolve_kernels.errors import BackendError

BackendName = Literal["reference", "torch", "triton"]
Precision = Literal["ieee", "tf32x3", "tf32"]


def select_backend_name(
    name: BackendName | None, tensor: Tensor, dtype: torch.dtype, *, has_kernel: bool
) -> BackendName:
    """Validate an explicit backend, or select the default of the tensor's device.

    Args:
        name: an explicit choice, or None.
        tensor: an input of the call.
        dtype: that the kernel would compute in.
        has_kernel: whether the family has a Triton kernel for this call.

    Raises:
        BackendError: an unknown name, or an explicit choice that cannot run here.
    """
    check_backend(name)
    if name is None:
        runs = has_kernel and tensor.is_cuda and _triton_runs_on(tensor)
        return "triton" if runs and not interpreter_lacks(dtype) else "torch"
    if name == "triton":
        if not has_kernel:
            raise BackendError(
                "backend='triton' has no kernel for this call; use backend=None or 'torch'"
            )
        if not _triton_runs_on(tensor):
            raise BackendError(
                f"backend='triton' cannot run on device {tensor.device}: it needs the triton "
                "package and a CUDA device (or TRITON_INTERPRET=1); use backend=None or 'torch'"
            )
        if interpreter_lacks(dtype):
            raise BackendError(
                "backend='triton' cannot run bfloat16 in Triton's interpreter, which stores it as "
                "integers and multiplies those; use float16 or float32 there, or backend='torch'"
            )
    return name


def check_backend(name: BackendName | None) -> None:
    """Raise BackendError unless the name is None or one of `BackendName`."""
    if name is not None and name not in get_args(BackendName):
        raise BackendError(f"backend is {name!r}; expected None or one of {get_args(BackendName)}")


def check_precision(precision: Precision | None) -> None:
    """Raise BackendError unless the precision is None or one of `Precision`."""
    if precision is not None and precision not in get_args(Precision):
        raise BackendError(
            f"precision is {precision!r}; expected None or one of {get_args(Precision)}"
        )


def torch_honours(dtype: torch.dtype, device: torch.device, precision: Precision | None) -> bool:
    """Whether torch's products have this precision; for float32 torch's settings decide."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    ieee = backend.matmul.fp32_precision in ("ieee", "none")
    return dtype != torch.float32 or (precision in (None, "ieee") and ieee)


def architecture(device: torch.device) -> Architecture | None:
    """The architecture of a device; None if the kernels do not support it.

    Unsupported are older GPUs and those of AMD. A CPU has the architecture whose configurations
    Triton's interpreter takes.
    """
    if device.type != "cuda":
        return architectures.INTERPRETED
    if torch.version.hip is not None:  # ROCm numbers its capabilities differently
        return None
    capability = torch.cuda.get_device_capability(device)
    return next((row for row in architectures.TABLE if row.capability == capability), None)


def interpreter_lacks(dtype: torch.dtype) -> bool:
    """Whether kernels run in Triton's interpreter, and it does not compute in this dtype.

    It stores bfloat16 as integers, and computes with those. Tensors on a GPU are copied to it.
    """
    return dtype == torch.bfloat16 and _is_interpreted()


def _triton_runs_on(tensor: Tensor) -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    return tensor.is_cuda or (_is_interpreted() and tensor.device == torch.device("cpu"))


def _is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
