"""A launch of a Triton kernel as a value: what runs it also describes it to the compiler.

Launchers call `launch`. Inside `recorded()` nothing runs, and each launch is kept: the compiled
checks call the launchers on meta tensors and learn every argument's type from the launch itself.
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
        registers: of a thread at most; None is the compiler's choice.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    num_warps: int
    num_stages: int
    registers: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the compiler is told beside the arguments.

        A product and a sum are rounded one by one unless a kernel writes `tl.fma`, as in the
        interpreter that the tests run: fused, `logit * LOG2_E - top` is not zero at the top, but
        what rounding `top` left, whose exponential overflows for logits of 1e10.
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
    """A launch as the compiled checks list it.

    Attributes:
        name: unique in the table, family first.
        launch: on meta tensors.
        tensor_cores: whether it should compile to tensor-core instructions.
    """

    name: str
    launch: Launch
    tensor_cores: bool

    @property
    def kernel(self) -> Any:
        """As in `Launch`, like the options below: what a program that reads variants asks for."""
        return self.launch.kernel

    @property
    def num_warps(self) -> int:
        """Of a program."""
        return self.launch.num_warps

    @property
    def num_stages(self) -> int:
        """Depth of the software pipeline."""
        return self.launch.num_stages

    @property
    def options(self) -> dict[str, Any]:
        """What the compiler is told, the limit on registers included."""
        return self.launch.options

    @property
    def rare(self) -> bool:
        """Whether what branches jump over in the main loop seldom runs, as masks do."""
        return True

    @property
    def constants(self) -> dict[str, Any]:
        """Values of the constexpr arguments."""
        return signature(self.launch).constants

    @property
    def arguments(self) -> dict[str, str]:
        """Types of the other arguments."""
        described = signature(self.launch)
        return {n: kind for n, kind in described.types.items() if n not in described.constants}


@dataclass(frozen=True)
class Signature:
    """A launch as Triton's compiler takes it.

    Attributes:
        types: of each argument by name, as "*bf16", "i32" or "constexpr".
        constants: values of the constexpr ones.
        aligned: positions of arguments divisible by 16, as tensors' addresses are.
    """

    types: dict[str, str]
    constants: dict[str, Any]
    aligned: list[int]


def signature(launch: Launch) -> Signature:
    """Types, constants and alignment, by the rules with which Triton specialises a launch.

    A number that is one becomes a constant, and one divisible by 16 is marked, unless the kernel
    forbids it (`do_not_specialize`); tensors are taken to be aligned, as torch allocates them.
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


_kept: ContextVar[list[Launch] | None] = ContextVar("kept", default=None)


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    num_warps: int,
    num_stages: int,
    registers: int | None = None,
    **arguments: Any,
) -> None:
    """Run a kernel, or keep the launch inside `recorded`; see `Launch` for the arguments."""
    made = Launch(kernel, grid, arguments, num_warps, num_stages, registers)
    kept = _kept.get()
    if kept is None:
        made.run()
    else:
        kept.append(made)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Keep the launches of the block instead of running them."""
    kept: list[Launch] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"*{_TYPES[value.dtype]}"
    if _is_int(value):
        return "i32" if -_INT32 <= value < _INT32 else "i64"
    return "fp32"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
