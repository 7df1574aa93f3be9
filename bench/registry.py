"""A benchmark case: a function, its implementations, its reference and its cost.

The packages under test are imported where an implementation is prepared, not at the top of a
module: an older commit may lack a function, and a worker of the gate first chooses its tree.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

OURS = "ours"  # the implementation that the others are compared with
Inputs = Any
Size = Any
Result = Tensor | tuple[Tensor, ...]
Run = Callable[[], Result]
Prepare = Callable[[Inputs], Run]


class Unsupported(Exception):  # noqa: N818 - a reason to skip, not an error
    """An implementation cannot run here; the message is the reason that the table states."""


class Format(NamedTuple):
    """How numbers are stored and multiplied."""

    name: str  # of the dtype, or of the precision of float32 products on tensor cores
    dtype: torch.dtype  # of the inputs
    precision: str | None  # the argument of `memsolve_kernels`; None is its default
    tolerance: float  # largest relative error, in the norm, against float64

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of our functions."""
        return {} if self.precision is None else {"precision": self.precision}


FORMATS = {
    entry.name: entry
    for entry in (
        Format("float64", torch.float64, None, 1e-9),
        Format("float32", torch.float32, None, 1e-4),
        Format("tf32x3", torch.float32, "tf32x3", 1e-4),
        Format("tf32", torch.float32, "tf32", 1e-2),
        Format("float16", torch.float16, None, 5e-3),
        Format("bfloat16", torch.bfloat16, None, 3e-2),
    )
}


class Implementation(NamedTuple):
    """One implementation of a function."""

    name: str
    prepare: Prepare  # turns inputs into the call that is timed; raises Unsupported with a reason
    bound: bool = False  # it does a part of the work: a lower bound, whose result is not compared


@dataclass(frozen=True)
class Function:
    """What is computed, and by which implementations, ours first."""

    name: str
    make_inputs: Callable[[Size, Format, torch.device], Inputs]  # seeded
    reference: Callable[[Inputs], Result]  # in float64
    implementations: tuple[Implementation, ...]
    flops: Callable[[Inputs], float]
    bytes: Callable[[Size, int], float]  # of an element's bytes: inputs read, outputs written once

    def cases(self, device: str, sizes: Iterable[Size], *formats: str) -> "list[Case]":
        """Every size in every format, by its name, on a kind of device."""
        return [Case(self, size, FORMATS[name], device) for size in sizes for name in formats]


@dataclass(frozen=True)
class Case:
    """A function at one size, in one format, on one kind of device ("cpu" or "cuda")."""

    function: Function
    size: Size
    format: Format
    device: str

    @property
    def name(self) -> str:
        """Unique, and the same on every commit."""
        size = " ".join(f"{letter}={value}" for letter, value in self.size._asdict().items())
        return f"{self.function.name} {size} {self.format.name} {self.device}"

    @property
    def ours(self) -> Implementation:
        """The implementation that the others are compared with."""
        return self.function.implementations[0]

    def make_inputs(self) -> Inputs:
        """The inputs, the same at every call."""
        return self.function.make_inputs(self.size, self.format, torch.device(self.device))


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def select(cases: Iterable[Case], pattern: str, device: str) -> list[Case]:
    """Cases of a device whose name matches the regular expression."""
    return [case for case in cases if case.device == device and re.search(pattern, case.name)]
