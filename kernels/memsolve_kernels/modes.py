"""Torch's modes, as they affect a function on tensors: tracing, derivatives and autocast."""

import functools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    is_functorch_wrapped_tensor,
)
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

DTENSOR_MODULE = "torch.distributed.tensor"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def is_traced(tensor: Tensor) -> bool:
    """Whether operations on a tensor are recorded or mapped, so that its values cannot be read.

    This holds under `torch.compile`, `torch.export` and the transforms of `torch.func`, for a
    FakeTensor and on the meta device.
    """
    return (
        torch.compiler.is_compiling()
        or is_functorch_wrapped_tensor(tensor)
        or isinstance(tensor, FakeTensor)
        or tensor.is_meta
    )


def any_traced(values: Iterable[object]) -> bool:
    """Whether any of the values is a traced tensor, of a subclass, or seen by a dispatch mode."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    tensors = [value for value in values if isinstance(value, Tensor)]
    return any(type(each) not in (Tensor, Parameter) or is_traced(each) for each in tensors)


def is_readable(*tensors: Tensor) -> bool:
    """Whether values can be read without waiting for a device: on a CPU, and not traced."""
    return all(each.device.type == "cpu" and not is_traced(each) for each in tensors)


def transforms() -> list[TransformType]:
    """The active transforms of `torch.func`, outermost first."""
    if torch.compiler.is_compiling():
        return []
    return [each.key() for each in get_interpreter_stack() or []]


def needs_jvp() -> bool:
    """Whether a `Function` may meet a tangent."""
    return not torch.compiler.is_compiling() and (
        forward_ad._current_level >= 0 or bool(transforms())
    )


def is_differentiated(*inputs: Any) -> bool:
    """Whether autograd, forward mode or a transform of `torch.func` is active."""
    if needs_jvp():
        return True
    return torch.is_grad_enabled() and any(
        isinstance(each, Tensor) and each.requires_grad for each in inputs
    )


def apply(function: type[Function], *inputs: Any) -> Any:
    """`Function.apply`, which has no types."""
    return function.apply(*inputs)


def without_autocast(run: Callable[..., Result]) -> Callable[..., Result]:
    """Disable `torch.autocast` within a function whose first argument is a tensor."""

    @functools.wraps(run)
    def guarded(first: Tensor, *others: Any) -> Result:
        device = first.device.type
        if device == "meta" or not torch.is_autocast_enabled(device):
            return run(first, *others)  # entering a context costs as much as a small product
        with torch.autocast(device, enabled=False):
            return run(first, *others)

    return guarded


def untraced(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Exclude a function from compiled graphs, without loading `torch._dynamo` for it."""

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if "torch._dynamo" not in sys.modules:  # then nothing is compiled
            return function(*args, **kwargs)
        from memsolve_kernels.compiler import call_untraced

        result: Result = call_untraced(function, *args, **kwargs)
        return result

    return wrapper


def is_distributed(value: object) -> "TypeGuard[DTensor]":
    """Whether a value is a DTensor, without an import of its module, which takes a second."""
    module = sys.modules.get(DTENSOR_MODULE)
    return module is not None and isinstance(value, module.DTensor)


def eager_if_distributed(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Exclude calls with a `group`, or with a DTensor, from compiled graphs."""
    eager = untraced(function)

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        distributed = kwargs.get("group") is not None or (
            DTENSOR_MODULE in sys.modules and any(map(is_distributed, (*args, *kwargs.values())))
        )
        return (eager if distributed else function)(*args, **kwargs)

    return wrapper
