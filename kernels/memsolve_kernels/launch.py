"""A launch of a Triton kernel as a value, which can be run or described to the compiler.

Launchers call `launch`. Inside `record_launches()` launches are recorded instead of run: the
compiled checks call the launchers on meta tensors, and read every argument's type from the launch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

_INT32 = 2**31
_TYPES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
}


@dataclass(frozen=True)
class Launch:
    """One launch.

    Attributes:
        kernel: the `triton.jit` function.
        grid: programs in each of up to three directions.
        arguments: every argument of the kernel by name, constants included.
        num_warps: warps of a program.
        num_stages: depth of the software pipeline.
        registers: limit of a thread; None leaves it to the compiler.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    num_warps: int
    num_stages: int
    registers: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Options of the compiler.

        Fusion of products and sums is off unless a kernel writes `tl.fma`, as in the interpreter
        that the tests run: fused, `logit * LOG2_E - top` is the rounding error of `top` at the
        maximum instead of zero, and its exponential overflows for logits of 1e10.
        """
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": False,
            "maxnreg": self.registers,
        }

    def run(self) -> None:
        """Launch it on the current device."""
        self.kernel[self.grid](**self.arguments, **self.options)


class Variant(NamedTuple):
    """A kernel in one of its presets, as the compiled checks list it.

    Attributes:
        name: unique in the table, family first.
        launch: its launch on meta tensors.
        tensor_cores: whether it should compile to tensor-core instructions.
    """

    name: str
    launch: Launch
    tensor_cores: bool

    @property
    def kernel(self) -> Any:
        """The `triton.jit` function."""
        return self.launch.kernel

    @property
    def num_warps(self) -> int:
        """Warps of a program."""
        return self.launch.num_warps

    @property
    def num_stages(self) -> int:
        """Depth of the software pipeline."""
        return self.launch.num_stages

    @property
    def options(self) -> dict[str, Any]:
        """Options of the compiler, with the limit on registers."""
        return self.launch.options

    @property
    def rare(self) -> bool:
        """Whether code that branches skip in the main loop, such as masks, rarely runs."""
        return True

    @property
    def constants(self) -> dict[str, Any]:
        """Values of the constexpr arguments."""
        return signature(self.launch).constants

    @property
    def arguments(self) -> dict[str, str]:
        """Types of the other arguments."""
        kernel = signature(self.launch)
        return {name: kind for name, kind in kernel.types.items() if name not in kernel.constants}


@dataclass(frozen=True)
class Signature:
    """The signature of a kernel at a launch, as Triton's compiler takes it.

    Attributes:
        types: type of each argument by name, such as "*bf16", "i32" or "constexpr".
        constants: values of the constexpr arguments.
        aligned: positions of the arguments that are divisible by 16, as tensors' addresses are.
    """

    types: dict[str, str]
    constants: dict[str, Any]
    aligned: list[int]


def signature(launch: Launch) -> Signature:
    """Types, constants and alignment, by the rules with which Triton specialises a launch.

    An integer equal to one becomes a constant, and one divisible by 16 is marked, unless the kernel
    forbids it (`do_not_specialize`). Tensors are assumed to be aligned, as torch allocates them.
    """
    types: dict[str, str] = {}
    constants: dict[str, Any] = {}
    aligned: list[int] = []
    for param in launch.kernel.params:
        value = launch.arguments[param.name]
        special = not param.do_not_specialize
        if param.is_constexpr or value is None or (special and _is_int(value) and value == 1):
            types[param.name], constants[param.name] = "constexpr", value
            continue
        types[param.name] = _type(value)
        divisible = isinstance(value, Tensor) or (_is_int(value) and value % 16 == 0)
        if special and divisible:
            aligned.append(param.num)
    return Signature(types, constants, aligned)


_recording: ContextVar[list[Launch] | None] = ContextVar("recording", default=None)


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    num_warps: int,
    num_stages: int,
    registers: int | None = None,
    **arguments: Any,
) -> None:
    """Run a kernel, or record its launch inside `record_launches`; for arguments see `Launch`."""
    this = Launch(kernel, grid, arguments, num_warps, num_stages, registers)
    launches = _recording.get()
    if launches is None:
        this.run()
    else:
        launches.append(this)


@contextmanager
def record_launches() -> Iterator[list[Launch]]:
    """Record the launches of the block instead of running them."""
    launches: list[Launch] = []
    token = _recording.set(launches)
    try:
        yield launches
    finally:
        _recording.reset(token)


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"*{_TYPES[value.dtype]}"
    if _is_int(value):
        return "i32" if -_INT32 <= value < _INT32 else "i64"
    return "fp32"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
