"""A fake GPU: calls on it have shapes and launches, but no numbers.

Inside `faked_gpu()` tensors on "cuda" are torch's FakeTensors, the device reports the properties of
an H100, and every launch of a kernel is recorded instead of run. Autograd works.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from memsolve_kernels.compiled import source
from memsolve_kernels.launch import Launch, record_launches, signature
from memsolve_kernels.matrix_sign import ops as sign_ops
from memsolve_kernels.matrix_sign.triton_kernels.batched import _coefficients
from memsolve_kernels.softmax import ops
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_impls import op_implementations_dict
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import make_backend

aten = torch.ops.aten
DATA_DEPENDENT = {  # operators with results as for small errors and valid values
    aten._local_scalar_dense.default: lambda mode, operator, tensor: _read(tensor),
    aten.equal.default: lambda mode, operator, one, other: True,
    aten.nonzero.default: lambda mode, operator, tensor: aten.new_empty(
        tensor, (0, tensor.dim()), dtype=torch.int64
    ),
    aten._unique2.default: lambda mode, operator, tensor, *options: (tensor.flatten(),) * 3,
}
H100 = SimpleNamespace(multi_processor_count=132, major=9, minor=0, total_memory=80 << 30)
TORCH_CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "current_device": lambda: 0,
    "get_device_properties": lambda device=None: H100,
    "get_device_capability": lambda device=None: (9, 0),
    "synchronize": lambda device=None: None,
    "_exchange_device": lambda device: 0,
    "_maybe_exchange_device": lambda device: 0,
    "Stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
    "current_stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
    "stream": lambda stream: nullcontext(),
    "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
    "graph": lambda graph: nullcontext(),
    "set_sync_debug_mode": lambda mode: warnings.warn(
        "Synchronization debug mode is a prototype feature", stacklevel=2
    ),
    "get_rng_state": lambda device: None,
    "set_rng_state": lambda state, device: None,
    "reset_peak_memory_stats": lambda: None,
    "memory_allocated": lambda: 0,
    "max_memory_allocated": lambda: 1,
}
OPERATORS = (
    ops.softmax_odds,
    ops.softmax_covariance,
    ops.softmax_curvature,
    ops.softmax_outputs,
    ops.softmax_entropy,
    ops.softmax_entropy_gradients,
    ops.softmax_rank,
    sign_ops.traced_sign,
)


class Generator(torch.Generator):
    """A generator of a GPU, which nothing is drawn from."""

    device = torch.device("cpu")

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        generator = super().__new__(cls)
        generator.device = torch.device(device)
        return generator


@contextmanager
def faked_gpu() -> Iterator[list[Launch]]:
    """Record the launches on "cuda" in the block."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(torch.cuda, **TORCH_CUDA))
        stack.enter_context(patch.object(torch, "Generator", Generator))
        stack.enter_context(patch.object(torch, "tensor", _tensor))
        stack.enter_context(patch.object(Tensor, "new_tensor", _new_tensor))
        stack.enter_context(patch.dict(op_implementations_dict, DATA_DEPENDENT))
        for operator in OPERATORS:  # for fake tensors, run the implementation
            stack.enter_context(patch.object(operator, "_abstract_fn", operator._init_fn))
        # Torch's C++ checks for a CUDA device, which a CPU build lacks. Hence tensors are on
        # "meta" for C++, and only Python sees their device.
        stack.enter_context(patch.object(fake_tensor, "init_gpu_context", lambda device: None))
        stack.enter_context(
            patch.object(Tensor, "_make_subclass", staticmethod(_make_meta_subclass))
        )
        stack.enter_context(patch.object(FakeTensor, "__new__", _new_fake_tensor))
        stack.enter_context(patch.object(FakeTensor, "is_cuda", property(_is_cuda), create=True))
        stack.enter_context(patch.object(Tensor, "to", _to))
        stack.enter_context(patch.object(Tensor, "cuda", lambda tensor: _to(tensor, "cuda")))
        stack.enter_context(mode)
        stack.callback(_coefficients.cache_clear)  # remove fake tensors
        yield stack.enter_context(record_launches())


def _read(tensor: Tensor) -> float | int | bool:
    """The value of a number that the host reads."""
    if tensor.dtype == torch.bool:
        return True
    return 1e-7 if tensor.is_floating_point() else 0


_make_subclass, _new = Tensor._make_subclass, FakeTensor.__new__


def _make_meta_subclass(
    cls: type[Tensor], data: Tensor, requires_grad: bool = False, **_: Any
) -> Tensor:
    """A tensor of a subclass that is on "meta" for C++."""
    meta = torch.device("meta")
    tensor: Tensor = _make_subclass(cls, data, requires_grad, device_for_backend_keys=meta)
    return tensor


def _new_fake_tensor(
    cls: type[FakeTensor],
    mode: FakeTensorMode,
    data: Tensor,
    device: Any,
    *others: Any,
    **named: Any,
) -> FakeTensor:
    """A fake tensor on the GPU, if C++ requested "meta"."""
    fake_device = torch.device(device)
    if fake_device.type == "meta":
        fake_device = torch.device("cuda:0" if data.dim() else "cpu")  # numbers fit any device
    return _new(cls, mode, data, fake_device, *others, **named)


def _is_cuda(tensor: FakeTensor) -> bool:
    return tensor.fake_device.type == "cuda"


def _tensor(data: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    like = torch.as_tensor(data, dtype=dtype)
    return torch.empty(like.shape, dtype=like.dtype, device=device)


def _new_tensor(tensor: Tensor, data: Any) -> Tensor:
    return _tensor(data, dtype=tensor.dtype, device=tensor.device)


def _to(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
    device, dtype, _, _ = torch._C._nn._parse_to(*arguments, **options)
    moved: Tensor = torch.ops.aten._to_copy(tensor, device=device, dtype=dtype)
    return moved


def check(launches: Iterable[Launch]) -> None:
    """Compile launches by Triton's front end, which checks types.

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
