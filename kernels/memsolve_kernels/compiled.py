"""What a Triton kernel compiles to, read without a GPU: registers, spills, the main loop by count.

Run `python -m memsolve_kernels.compiled [architecture ...]` for the table of every preset. A family
takes part by a function that yields its variants for an architecture (`FAMILIES`).
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import triton
from triton.backends.compiler import GPUTarget, Language
from triton.compiler import ASTSource, make_backend

from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.launch import Launch, Variant, signature
from memsolve_kernels.matrix_sign.variants import variants as matrix_sign_variants
from memsolve_kernels.sass import Count, count
from memsolve_kernels.softmax.variants import variants as softmax_variants

FAMILIES = (softmax_variants, matrix_sign_variants)
BLOCKED_BY_INTERPRETER = "kernels were defined under TRITON_INTERPRET=1 and cannot be compiled"

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)")
_TENSOR_CORE = re.compile(r"\b(?:wgmma\.mma_async|mma\.sync|tcgen05\.mma)\.")

Read = TypeVar("Read")


class ToolError(RuntimeError):
    """A tool that reads machine code is not there."""


class Binary(NamedTuple):
    """A compiled launch.

    Attributes:
        arch: what it runs on, as 90.
        cubin: the machine code.
        ptx: what it was assembled from.
        shared: bytes of shared memory of a block.
        warps: of a block.
    """

    arch: int
    cubin: bytes
    ptx: str
    shared: int
    warps: int


@dataclass(frozen=True)
class Resources:
    """What a block needs of the processor; `stack` above zero means spilled registers.

    Sizes are in bytes; registers are those of a thread; `tensor` counts tensor-core instructions.
    """

    registers: int
    stack: int
    shared: int
    tensor: int


def variants(arch: int) -> Iterator[Variant]:
    """Every kernel in every preset for an architecture, such as 90."""
    for family in FAMILIES:
        yield from family(COMPILED[arch].presets)


def source(launch: Launch) -> ASTSource:
    """A launch as the compiler takes it: the kernel, and the types and constants of this call."""
    described = signature(launch)
    aligned = {(position,): [["tt.divisibility", 16]] for position in described.aligned}
    return ASTSource(launch.kernel, described.types, described.constants, aligned)


def binaries(variant: Variant, architectures: Sequence[int]) -> list[Binary]:
    """Compile for architectures of the same presets, of which Triton makes the same PTX.

    It is made once, and only the assembler runs for each.

    Raises:
        TypeError: the kernel was defined for Triton's interpreter.
    """
    launch = variant.launch
    if not isinstance(launch.kernel, triton.JITFunction):
        raise TypeError(f"{variant.name}: {BLOCKED_BY_INTERPRETER}")
    first, *others = architectures
    made = triton.compile(
        source(launch), target=GPUTarget("cuda", first, 32), options=launch.options
    )
    ptx, shared, warps = made.asm["ptx"], made.metadata.shared, made.metadata.num_warps
    found = [Binary(first, made.asm["cubin"], ptx, shared, warps)]
    for arch in others:
        backend, stages = make_backend(GPUTarget("cuda", arch, 32)), dict[str, Any]()
        backend.add_stages(stages, backend.parse_options(launch.options), Language.TRITON)
        found.append(Binary(arch, stages["cubin"](ptx, {}), ptx, shared, warps))
    return found


def resources(binary: Binary) -> Resources:
    """Read what a block needs."""
    usage = _USAGE.search(tool("cuobjdump", "--dump-resource-usage", cubin=binary.cubin))
    if usage is None:
        raise RuntimeError(f"cuobjdump tells no registers of a kernel for sm_{binary.arch}")
    registers, stack, local = map(int, usage.groups())
    return Resources(
        registers=registers,
        stack=stack + local,
        shared=binary.shared,
        tensor=len(_TENSOR_CORE.findall(binary.ptx)),
    )


@dataclass(frozen=True)
class Profile(Resources):
    """Resources, and what the machine code does in its main loop.

    Attributes:
        blocks: that fit a processor at once.
        loop: the count of its main loop.
    """

    blocks: int
    loop: Count


def profile(binary: Binary) -> Profile:
    """Read what a block needs, and count its main loop."""
    used, row = resources(binary), COMPILED[binary.arch]
    code = tool("nvdisasm", "--print-code", "--no-dataflow", cubin=binary.cubin)
    return Profile(
        **vars(used),
        blocks=row.blocks(used.registers, used.shared, binary.warps),
        loop=count(code, binary.warps, row),
    )


def everywhere(
    read: Callable[[Binary], Read], architectures: Iterable[int] = tuple(COMPILED)
) -> Iterator[tuple[int, Variant, Read]]:
    """Every variant of the architectures and what `read` tells of its binary, in order.

    Compiled and read on all cores, by processes of their own: `read` is a function of a module.
    """
    architectures = tuple(architectures)
    kin: dict[int, list[int]] = defaultdict(list)
    for arch in architectures:
        kin[COMPILED[arch].presets].append(arch)
    pool = ProcessPoolExecutor(mp_context=get_context("spawn"))
    try:
        found: dict[tuple[int, str], Future[dict[int, Read]]] = {
            (presets, variant.name): pool.submit(_read_each, read, variant.name, same)
            for presets, same in kin.items()
            for variant in variants(same[0])
        }
        for arch in architectures:
            for variant in variants(arch):
                yield arch, variant, found[COMPILED[arch].presets, variant.name].result()[arch]
    finally:
        pool.shutdown(cancel_futures=True)


@cache
def _by_name(arch: int) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants(arch)}


def _read_each(
    read: Callable[[Binary], Read], name: str, architectures: Sequence[int]
) -> dict[int, Read]:
    try:
        made = binaries(_by_name(architectures[0])[name], architectures)
        return {binary.arch: read(binary) for binary in made}
    except Exception as error:
        error.add_note(f"while compiling {name} for sm_{architectures[0]}")
        raise


def tool(name: str, *arguments: str, cubin: bytes) -> str:
    """What one of the tools that come with Triton says of a binary.

    Raises:
        ToolError: this Triton came without it.
    """
    if not (_TOOLS / name).exists():
        raise ToolError(f"{_TOOLS} has no {name}, so that machine code cannot be read")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(_TOOLS / name), *arguments, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


COLUMNS = (
    *("regs", "stack", "shared", "blocks", "code", "tensor"),
    *("unpacked", "waits", "overlap", "serial"),
)


def main(architectures: Iterable[int]) -> None:
    """Print the table of every variant on each architecture."""
    print(
        f"triton {triton.__version__}; bytes, registers of a thread, and of the main loop cycles of"
    )
    print("a processor: an iteration of a block, by count (see memsolve_kernels/sass.py)")
    print(f"{'variant':<44}{'arch':>5}" + "".join(f"{name:>9}" for name in COLUMNS) + "  pattern")
    for arch, variant, r in everywhere(profile, architectures):
        loop = r.loop
        numbers = (
            *(r.registers, r.stack, r.shared, r.blocks, loop.code, r.tensor),
            *(loop.unpacked, loop.waits, round(loop.overlap), round(loop.serial)),
        )
        row = "".join(f"{number:>9}" for number in numbers)
        print(f"{variant.name:<44}{arch:>5}{row}  {loop.pattern}", flush=True)


if __name__ == "__main__":
    known = sorted(COMPILED)
    parser = argparse.ArgumentParser(
        prog="python -m memsolve_kernels.compiled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("architectures", nargs="*", type=int, help=f"of {known}")
    given = parser.parse_args().architectures or known
    if unknown := set(given) - set(known):
        parser.error(f"no presets for {sorted(unknown)}; expected some of {known}")
    try:
        main(given)
    except ToolError as error:
        sys.exit(str(error))
