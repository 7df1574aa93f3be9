"""What a Triton kernel compiles to, read without a GPU: registers, spills, shared memory, code.

Run `python -m memsolve_kernels.compiled [architecture ...]` for the table of every preset. A family
takes part by a function that yields its variants for an architecture (`FAMILIES`).
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.launch import Variant, signature
from memsolve_kernels.matrix_sign.variants import variants as matrix_sign_variants
from memsolve_kernels.softmax.variants import variants as softmax_variants

FAMILIES = (softmax_variants, matrix_sign_variants)
BLOCKED_BY_INTERPRETER = "kernels were defined under TRITON_INTERPRET=1 and cannot be compiled"

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", re.MULTILINE)
_TENSOR_CORE = re.compile(r"[HIBQD]G?MMA|UTC\w*MMA")
_INSTRUCTION_BYTES = 16


@dataclass(frozen=True)
class Resources:
    """What a block needs of the processor; `stack` above zero means spilled registers.

    Sizes are in bytes; registers are those of a thread; `tensor` counts tensor-core instructions.
    """

    registers: int
    stack: int
    shared: int
    code: int
    tensor: int


def variants(arch: int) -> Iterator[Variant]:
    """Every kernel in every preset for an architecture, such as 90."""
    for family in FAMILIES:
        yield from family(arch)


def resources(variant: Variant, arch: int) -> Resources:
    """Compile for `arch` and read the machine code.

    Raises:
        TypeError: the kernel was defined for Triton's interpreter.
    """
    launch = variant.launch
    if not isinstance(launch.kernel, triton.JITFunction):
        raise TypeError(f"{variant.name}: {BLOCKED_BY_INTERPRETER}")
    described = signature(launch)
    compiled = triton.compile(
        ASTSource(
            launch.kernel,
            described.types,
            described.constants,
            {(position,): [["tt.divisibility", 16]] for position in described.aligned},
        ),
        target=GPUTarget("cuda", arch, 32),
        options=launch.options,
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = _USAGE.search(_read("cuobjdump", "--dump-resource-usage", cubin.name))
        instructions = _INSTRUCTION.findall(
            _read("nvdisasm", "--print-code", "--no-dataflow", cubin.name)
        )
    if usage is None or not instructions:
        raise RuntimeError(f"cannot read the resources of {variant.name} for sm_{arch}")
    registers, stack, local = map(int, usage.groups())
    return Resources(
        registers=registers,
        stack=stack + local,
        shared=compiled.metadata.shared,
        code=_INSTRUCTION_BYTES * len(instructions),
        tensor=sum(_TENSOR_CORE.fullmatch(name) is not None for name in instructions),
    )


def all_resources(architectures: Iterable[int]) -> Iterator[tuple[int, Variant, Resources]]:
    """Every variant of the architectures with its resources, compiled on all cores, in order."""
    jobs = [(arch, variant) for arch in architectures for variant in variants(arch)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        names = ((arch, variant.name) for arch, variant in jobs)
        found = pool.map(_resources_of, names, chunksize=4)
        for (arch, variant), used in zip(jobs, found, strict=True):
            yield arch, variant, used


@cache
def _by_name(arch: int) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants(arch)}


def _resources_of(job: tuple[int, str]) -> Resources:
    arch, name = job
    try:
        return resources(_by_name(arch)[name], arch)
    except Exception as error:
        error.add_note(f"while compiling {name} for sm_{arch}")
        raise


def _read(tool: str, *arguments: str) -> str:
    command = [str(_TOOLS / tool), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(architectures: Iterable[int] = tuple(COMPILED)) -> None:
    """Print the table of every variant on each architecture."""
    print(f"triton {triton.__version__}; bytes, and registers of a thread")
    print(f"{'variant':<44}{'arch':>5}{'regs':>6}{'stack':>7}{'shared':>8}{'code':>8}{'tensor':>8}")
    for arch, variant, r in all_resources(architectures):
        print(
            f"{variant.name:<44}{arch:>5}{r.registers:>6}{r.stack:>7}{r.shared:>8}{r.code:>8}"
            f"{r.tensor:>8}",
            flush=True,
        )


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
    main(given)
