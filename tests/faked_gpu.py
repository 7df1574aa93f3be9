"""A GPU of fake tensors: whatever runs on it has shapes and launches, and no numbers.

Inside `faked_gpu()` tensors on "cuda" are torch's FakeTensors, the device is an H100 by what it
says of itself, and every launch of a kernel is kept instead of run.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from memsolve_kernels.compiled import source
from memsolve_kernels.launch import Launch, recorded, signature
from memsolve_kernels.matrix_sign import ops as sign_ops
from memsolve_kernels.matrix_sign.triton_kernels.batched import _coefficients
from memsolve_kernels.softmax import ops
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import make_backend

A_NUMBER = 1e-7  # what the host reads back, small enough to be an error
H100 = SimpleNamespace(multi_processor_count=132, major=9, minor=0, total_memory=80 << 30)
OPERATORS = (
    ops.softmax_odds,
    ops.softmax_covariance,
    ops.softmax_curvature,
    ops.softmax_outputs,
    ops.softmax_rank,
    sign_ops.traced_sign,
)


class Generator(torch.Generator):
    """A generator of a GPU, from which nothing is drawn."""

    device = torch.device("cpu")

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        made = super().__new__(cls)
        made.device = torch.device(device)
        return made


@contextmanager
def faked_gpu() -> Iterator[list[Launch]]:
    """Keep the launches of what runs on "cuda" in the block."""
    with ExitStack() as stack:
        for name, value in {
            "is_available": lambda: True,
            "current_device": lambda: 0,
            "get_device_properties": lambda device=None: H100,
            "get_device_capability": lambda device=None: (9, 0),
            "synchronize": lambda device=None: None,
            "_exchange_device": lambda device: 0,
            "_maybe_exchange_device": lambda device: 0,
        }.items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        stack.enter_context(patch.object(torch, "Generator", Generator))
        stack.enter_context(patch.object(torch, "tensor", _made))
        stack.enter_context(patch.object(torch, "equal", lambda one, other: True))
        for operator in OPERATORS:  # a fake tensor's operator does what a real one's does
            stack.enter_context(patch.object(operator, "_abstract_fn", operator._init_fn))
        # bindings of Python ask for a CUDA device even of a fake tensor; operators do not
        stack.enter_context(patch.object(Tensor, "__getitem__", _indexed))
        stack.enter_context(patch.object(Tensor, "__setitem__", _assigned))
        stack.enter_context(patch.object(Tensor, "copy_", _copied))
        stack.enter_context(patch.object(Tensor, "__float__", lambda tensor: A_NUMBER))
        stack.enter_context(patch.object(Tensor, "__bool__", lambda tensor: True))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.callback(_coefficients.cache_clear)  # of fake ones
        yield stack.enter_context(recorded())


def _made(data: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    like = torch.as_tensor(data, dtype=dtype)
    return torch.empty(like.shape, dtype=like.dtype, device=device)


def _indexed(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[index]` by views, one direction after the other."""
    dim, last = 0, None
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        if part is Ellipsis:
            last = len([each for each in parts[parts.index(part) + 1 :] if each is not None])
            dim = tensor.dim() - last
        elif part is None:
            tensor, dim = tensor.unsqueeze(dim), dim + 1
        elif isinstance(part, slice):
            tensor = torch.ops.aten.slice(tensor, dim, part.start, part.stop, part.step or 1)
            dim += 1
        elif isinstance(part, int):
            tensor = tensor.select(dim, part)
        else:
            tensor = torch.ops.aten.index(tensor, [None] * dim + [torch.as_tensor(part)])
            dim += 1
    return tensor


def _assigned(tensor: Tensor, index: Any, value: Any) -> None:
    _copied(_indexed(tensor, index), torch.as_tensor(value))


def _copied(tensor: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    copied: Tensor = torch.ops.aten.copy_(tensor, source, non_blocking)
    return copied


def check(launches: Iterable[Launch]) -> None:
    """Take launches through Triton's front end, which is where types are checked.

    Raises:
        CompilationError: a kernel does not compile for the types and constants of a launch.
        AssertionError: a grid is larger than CUDA allows.
    """
    for launch in launches:
        assert max(launch.grid[1:], default=1) < 2**16, f"{launch.kernel.__name__}: {launch.grid}"
        key = launch.kernel, repr(signature(launch))
        if key not in _checked:
            _front_end(launch)
            _checked.add(key)


_checked: set[tuple[Any, str]] = set()


def _front_end(launch: Launch) -> None:
    target = GPUTarget("cuda", 90, 32)
    backend, context = make_backend(target), ir.context()
    options = backend.parse_options(launch.options)
    ir.load_dialects(context)
    backend.load_dialects(context)
    functions, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    source(launch).make_ir(target, options, functions, modules, context)
