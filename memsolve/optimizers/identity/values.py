"""Parts of instances: what pickle takes of them, unless they are tensors or live state."""

import contextvars
import copyreg
import io
import logging
import os
import random
import threading
import weakref
from typing import Any

import numpy as np
import torch

from memsolve.optimizers.identity.definitions import describe_extension
from memsolve.optimizers.identity.origin import is_own, origin_of
from memsolve.optimizers.identity.parts import Installed, Part, Refusal, Value

LIVE = (
    *(type(os.environ), io.IOBase, logging.Logger, logging.Handler, threading.Thread),
    *(type(threading.Lock()), type(threading.RLock()), threading.local, contextvars.ContextVar),
    *(weakref.ref, weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet),
    *(random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState),
    torch.Generator,
)
"""Types whose values are state of the process; only the class of such a value counts."""


def describe_instance(value: Any) -> list[Part]:
    """An instance, as pickle takes it apart."""
    kind = type(value)
    try:
        reduce = copyreg.dispatch_table.get(kind)
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception:  # its class may refuse in any way
        return [Refusal(f"an object of {kind.__module__}.{kind.__qualname__}")]
    if not isinstance(reduced, tuple):
        return ["instance", *_describe_global(value, str(reduced))]
    make, arguments, state, items, entries = (*reduced, None, None, None)[:5]
    return [
        "instance",
        Value((make, arguments, state, list(items or ()), list(entries or ()))),
    ]


def _describe_global(value: Any, name: str) -> list[Part]:
    """A value that pickle takes by its name in a module."""
    module = str(getattr(value, "__module__", None) or type(value).__module__)
    origin = origin_of(module)
    own = [name, *describe_extension(origin.extension)]
    return [
        Value(type(value)),
        *(own if origin.own else [Installed(module, name)]),
        Value(getattr(value, "__wrapped__", None)),  # of functools.cache
    ]


def describe_tensor(tensor: torch.Tensor) -> list[Part]:
    """A tensor: its numbers, whatever their layout in memory."""
    parts: list[Part] = [
        Value((type(tensor), tensor.dtype, tuple(tensor.shape), tensor.requires_grad)),
        Value(getattr(tensor, "__dict__", None)),
    ]
    if tensor.device.type == "meta":
        return parts
    try:
        if tensor.is_quantized:
            raise TypeError("its numbers are not all of it")
        dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        return [*parts, dense.reshape(-1).view(torch.uint8).numpy().tobytes()]
    except (RuntimeError, TypeError):
        return [*parts, Refusal(f"a tensor of layout {tensor.layout} and dtype {tensor.dtype}")]


def describe_kernel(kernel: Any) -> list[Part]:
    """A kernel of triton: its function, and the configurations that it is tuned over."""
    return [Value((type(kernel), kernel.fn, getattr(kernel, "configs", None)))]


def describe_property(value: property) -> list[Part]:
    """The functions of a property."""
    return [Value((type(value), value.fget, value.fset, value.fdel))]


def describe_method(value: Any) -> list[Part]:
    """A bound method, a class method or a static one."""
    return [Value((type(value), value.__func__, getattr(value, "__self__", None)))]


def describe_slot(value: Any) -> list[Part]:
    """A descriptor of an extension, or of a class with slots."""
    return ["slot", value.__name__]


def describe_live(value: Any) -> list[Part]:
    """The class of a live value; of a stream, which notebooks replace, only the user's own."""
    is_foreign = isinstance(value, io.IOBase) and not is_own(type(value).__module__)
    return ["live"] if is_foreign else ["live", Value(type(value))]
