"""What a case is: a function, its peers, its truth and its cost, each declared once."""

import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

OURS = "ours"  # what the way is called that is held against the others
Inputs = Any
Size = Any
Result = Tensor | tuple[Tensor, ...]
Run = Callable[[], Result]


class Unsupported(Exception):  # noqa: N818 - a reason to skip, not an error
    """A way that cannot run here; its message is the reason that the table states."""


def lookup(path: str) -> Any:
    """An object of the package under test, as `module:name`; older commits may lack it."""
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError) as error:
        raise Unsupported(f"{path.replace(':', '.')} does not exist: {error}") from error


class Format(NamedTuple):
    """How numbers are kept and multiplied.

    Attributes:
        name: of the dtype, or of the precision of float32 products on tensor cores.
        dtype: of the inputs.
        precision: what `memsolve_kernels` is asked for; None is its default.
        tolerance: largest relative error, in the norm, against float64 that counts as right.
    """

    name: str
    dtype: torch.dtype
    precision: str | None
    tolerance: float


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


class Way(NamedTuple):
    """One way to compute a case.

    Attributes:
        name: in the table.
        prepare: takes the inputs and gives what is timed; raises Unsupported with a reason.
        bound: it does only a part of the work, so its time is a limit and its result is not
            compared.
        work: the function whose work it does, where that is not its own function's.
    """

    name: str
    prepare: Callable[[Inputs], Run]
    bound: bool = False
    work: "Function | None" = None


@dataclass(frozen=True)
class Function:
    """What is computed.

    Attributes:
        name: of the function.
        inputs: makes the inputs from size, format and device; seeded.
        reference: the truth of those inputs, in float64.
        ways: ours first.
        items: of a size, what throughput is counted in: queries, matrices or parameters.
        flops: of inputs.
        bytes: of a size and the bytes of an element: each input read, each output written, once.
    """

    name: str
    inputs: Callable[[Size, Format, torch.device], Inputs]
    reference: Callable[[Inputs], Result]
    ways: tuple[Way, ...]
    items: Callable[[Size], int]
    flops: Callable[[Inputs], float]
    bytes: Callable[[Size, int], float]

    @property
    def ours(self) -> Way:
        """The way that is held against the others."""
        return self.ways[0]

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
    def items(self) -> int:
        """Items of a call."""
        return self.function.items(self.size)

    def inputs(self) -> Inputs:
        """The inputs, the same at every call."""
        return self.function.inputs(self.size, self.format, torch.device(self.device))


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def matching(cases: Iterable[Case], pattern: str, device: str) -> list[Case]:
    """Cases of a device whose name contains the regular expression."""
    return [case for case in cases if case.device == device and re.search(pattern, case.name)]


def relative_error(result: Result, truth: Result) -> float:
    """The largest over the tensors of `|result - truth| / |truth|`; infinite where they misfit."""
    results, truths = _tuple(result), _tuple(truth)
    if [tensor.shape for tensor in results] != [tensor.shape for tensor in truths]:
        return float("inf")
    errors = [
        float((ours.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-300))
        for ours, exact in zip(results, truths, strict=True)
    ]
    return max(float("inf") if error != error else error for error in errors)


def counted(prepare: Callable[[Inputs], Run]) -> Callable[[Inputs], float]:
    """Flops of a way's matrix products, counted by torch while it runs."""

    def count(given: Inputs) -> float:
        run = prepare(given)
        with FlopCounterMode(display=False) as counter:
            run()
        return float(counter.get_total_flops())

    return count


def _tuple(result: Result) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
