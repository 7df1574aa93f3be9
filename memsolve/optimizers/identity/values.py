"""What instances are made of: what pickle takes of them, unless they are tensors or live state."""

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

from memsolve.optimizers.identity.content import Content
from memsolve.optimizers.identity.definitions import add_extension
from memsolve.optimizers.identity.origin import is_own

LIVE = (
    *(type(os.environ), io.IOBase, logging.Logger, logging.Handler, threading.Thread),
    *(type(threading.Lock()), type(threading.RLock()), threading.local, contextvars.ContextVar),
    *(weakref.ref, weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet),
    *(random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState),
    torch.Generator,
)
"""Types whose values are state of the process: of such a value only the class counts."""


def describe_instance(content: Content, value: Any) -> None:
    """Add what pickle takes of an instance."""
    kind = type(value)
    try:
        reduce = copyreg.dispatch_table.get(kind)
        found = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception:  # its class may refuse in any way
        content.refuse(f"an object of {kind.__module__}.{kind.__qualname__}")
    content.put("instance")
    if isinstance(found, tuple):
        make, arguments, state, items, entries = (*found, None, None, None)[:5]
        content.add((make, arguments, state, list(items or ()), list(entries or ())))
    else:
        _describe_global(content, value, str(found))


def _describe_global(content: Content, value: Any, name: str) -> None:
    """Add what pickle takes by its name in a module."""
    module = str(getattr(value, "__module__", None) or type(value).__module__)
    content.add(type(value))
    if is_own(module):
        content.put(name)
        add_extension(content, module)
    else:
        content.add_installed(module, name)
    content.add(getattr(value, "__wrapped__", None))  # of functools.cache


def describe_tensor(content: Content, tensor: torch.Tensor) -> None:
    """Add a tensor: its numbers, not how they lie in memory."""
    content.add((type(tensor), tensor.dtype, tuple(tensor.shape), tensor.requires_grad))
    content.add(getattr(tensor, "__dict__", None))
    if tensor.device.type != "meta":
        try:
            if tensor.is_quantized:
                raise TypeError("its numbers are not all of it")
            dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
            content.put(dense.reshape(-1).view(torch.uint8).numpy().tobytes())
        except (RuntimeError, TypeError):
            content.refuse(f"a tensor of layout {tensor.layout} and dtype {tensor.dtype}")


def describe_kernel(content: Content, kernel: Any) -> None:
    """Add a kernel of triton: its function, and the configurations that it is tuned over."""
    content.add((type(kernel), kernel.fn, getattr(kernel, "configs", None)))


def describe_property(content: Content, value: property) -> None:
    """Add the functions of a property."""
    content.add((type(value), value.fget, value.fset, value.fdel))


def describe_method(content: Content, value: Any) -> None:
    """Add a bound method, or what makes a class method or a static one."""
    content.add((type(value), value.__func__, getattr(value, "__self__", None)))


def describe_slot(content: Content, value: Any) -> None:
    """Add a descriptor that an extension, or a class with slots, has made."""
    content.put("slot", value.__name__)


def describe_live(content: Content, value: Any) -> None:
    """Add the class of what is live; but of a stream, which notebooks replace, only an own one."""
    content.put("live")
    if not isinstance(value, io.IOBase) or is_own(type(value).__module__):
        content.add(type(value))
