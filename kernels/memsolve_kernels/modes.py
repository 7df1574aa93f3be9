"""What torch's modes mean for a function on tensors: tracing, transforms, autocast."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor

Result = TypeVar("Result")


def is_traced(tensor: Tensor) -> bool:
    """Whether what is done to a tensor is recorded or mapped, so that no values can be read of it.

    So it is under `torch.compile`, `torch.export` and the transforms of `torch.func`, with a
    FakeTensor and on the meta device.
    """
    return (
        torch.compiler.is_compiling()
        or is_functorch_wrapped_tensor(tensor)
        or isinstance(tensor, FakeTensor)
        or tensor.is_meta
    )


def is_readable(*tensors: Tensor) -> bool:
    """Whether values can be read without waiting for a device: on a CPU, and not traced."""
    for tensor in tensors:
        if tensor.device.type != "cpu" or is_traced(tensor):
            return False
    return True


def without_autocast(run: Callable[..., Result]) -> Callable[..., Result]:
    """The function of a tensor and more, in which `torch.autocast` lowers no product."""

    @functools.wraps(run)
    def guarded(first: Tensor, *others: Any) -> Result:
        device = first.device.type
        if device == "meta" or not torch.is_autocast_enabled(device):
            return run(first, *others)  # entering the other costs as much as a small product
        with torch.autocast(device, enabled=False):
            return run(first, *others)

    return guarded
