"""Registers, spills and main loop of compiled Triton kernels, read without a GPU.

Run `python -m memsolve_kernels.compiled [architecture ...]` for the table of every preset. Each
family has a function that yields its variants for an architecture (`FAMILIES`).
"""

import argparse
import hashlib
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
    """A tool that reads machine code is missing."""


class Binary(NamedTuple):
    """A compiled launch.

    Attributes:
        arch: target architecture, such as 90.
        cubin: the machine code.
        ptx: the intermediate code that it was assembled from.
        shared: bytes of shared memory of a block.
        warps: warps of a block.
    """

    arch: int
    cubin: bytes
    ptx: str
    shared: int
    warps: int


@dataclass(frozen=True)
class Resources:
    """Resources of a block; `stack` above zero means spilled registers.

    Sizes are in bytes; registers are those of a thread; `tensor` counts tensor-core instructions.
    """

    registers: int
    stack: int
    shared: int
    tensor: int


def variants(arch: int) -> Iterator[Variant]:
    """Every kernel in every preset of an architecture, such as 90."""
    for family in FAMILIES:
        yield from family(COMPILED[arch].preset_arch)


def source(launch: Launch) -> ASTSource:
    """The input of the compiler for a launch: the kernel, and the call's types and constants."""
    kernel = signature(launch)
    aligned = {(position,): [["tt.divisibility", 16]] for position in kernel.aligned}
    return ASTSource(launch.kernel, kernel.types, kernel.constants, aligned)


def binaries(variant: Variant, architectures: Sequence[int]) -> list[Binary]:
    """Compile for architectures with the same presets, for which Triton generates the same PTX.

    The PTX is generated once; the assembler runs for each architecture.

    Raises:
        TypeError: the kernel was defined for Triton's interpreter.
    """
    launch = variant.launch
    if not isinstance(launch.kernel, triton.JITFunction):
        raise TypeError(f"{variant.name}: {BLOCKED_BY_INTERPRETER}")
    first, *others = architectures
    kernel = triton.compile(
        source(launch), target=GPUTarget("cuda", first, 32), options=launch.options
    )
    ptx, shared, warps = kernel.asm["ptx"], kernel.metadata.shared, kernel.metadata.num_warps
    results = [Binary(first, kernel.asm["cubin"], ptx, shared, warps)]
    for arch in others:
        backend, stages = make_backend(GPUTarget("cuda", arch, 32)), dict[str, Any]()
        backend.add_stages(stages, backend.parse_options(launch.options), Language.TRITON)
        results.append(Binary(arch, stages["cubin"](ptx, {}), ptx, shared, warps))
    return results


def resources(binary: Binary) -> Resources:
    """Read the resources of a block."""
    usage = _USAGE.search(tool("cuobjdump", "--dump-resource-usage", cubin=binary.cubin))
    if usage is None:
        raise RuntimeError(f"cuobjdump reports no registers of a kernel for sm_{binary.arch}")
    registers, stack, local = map(int, usage.groups())
    return Resources(
        registers=registers,
        stack=stack + local,
        shared=binary.shared,
        tensor=len(_TENSOR_CORE.findall(binary.ptx)),
    )


@dataclass(frozen=True)
class Profile(Resources):
    """Resources, and instruction counts of the main loop.

    Attributes:
        blocks: blocks that fit an SM at once.
        loop: counts of the main loop.
    """

    blocks: int
    loop: Count


def profile(binary: Binary) -> Profile:
    """Read the resources of a block, and count the instructions of its main loop."""
    used, row = resources(binary), COMPILED[binary.arch]
    code = tool("nvdisasm", "--print-code", "--no-dataflow", cubin=binary.cubin)
    return Profile(
        **vars(used),
        blocks=row.blocks(used.registers, used.shared, binary.warps),
        loop=count(code, binary.warps, row),
    )


def everywhere(
    read: Callable[[Binary], Read],
    architectures: Iterable[int] = tuple(COMPILED),
    needed: Callable[[int, Variant], bool] = lambda arch, variant: True,
) -> Iterator[tuple[int, Variant, Read]]:
    """Every variant of the architectures with the result of `read` for its binary, in order.

    Variants are compiled in parallel by other processes, so that `read` must be picklable.

    Args:
        read: takes a binary.
        architectures: such as 90.
        needed: whether a variant is to be compiled for an architecture; others are left out.
    """
    wanted = [
        (arch, variant)
        for arch in architectures
        for variant in variants(arch)
        if needed(arch, variant)
    ]
    same_ptx: dict[tuple[int, str], list[int]] = defaultdict(list)
    for arch, variant in wanted:
        same_ptx[COMPILED[arch].preset_arch, variant.name].append(arch)
    pool = ProcessPoolExecutor(mp_context=get_context("spawn"))
    try:
        futures: dict[tuple[int, str], Future[dict[int, Read]]] = {
            (preset_arch, name): pool.submit(_read_each, read, name, same)
            for (preset_arch, name), same in same_ptx.items()
        }
        for arch, variant in wanted:
            yield arch, variant, futures[COMPILED[arch].preset_arch, variant.name].result()[arch]
    finally:
        pool.shutdown(cancel_futures=True)


def fingerprint(variant: Variant) -> str:
    """A digest of everything that Triton compiles: the kernel's source, types, constants, options.

    The version of Triton is part of it, the architecture is not.
    """
    launch = variant.launch
    parts = triton.__version__, source(launch).hash(), repr(sorted(launch.options.items()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def _by_name(arch: int) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants(arch)}


def _read_each(
    read: Callable[[Binary], Read], name: str, architectures: Sequence[int]
) -> dict[int, Read]:
    try:
        variant = _by_name(architectures[0])[name]
        return {binary.arch: read(binary) for binary in binaries(variant, architectures)}
    except Exception as error:
        error.add_note(f"while compiling {name} for sm_{architectures[0]}")
        raise


def tool(name: str, *arguments: str, cubin: bytes) -> str:
    """The output for a binary of one of the tools that Triton includes.

    Raises:
        ToolError: this Triton does not include it.
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
    print(f"triton {triton.__version__}; bytes, registers of a thread, and cycles of an SM")
    print("for an iteration of a block's main loop, by count (see memsolve_kernels/sass.py)")
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
    supported = sorted(COMPILED)
    parser = argparse.ArgumentParser(
        prog="python -m memsolve_kernels.compiled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("architectures", nargs="*", type=int, help=f"of {supported}")
    requested = parser.parse_args().architectures or supported
    if unknown := set(requested) - set(supported):
        parser.error(f"no presets for {sorted(unknown)}; expected some of {supported}")
    try:
        main(requested)
    except ToolError as error:
        sys.exit(str(error))
