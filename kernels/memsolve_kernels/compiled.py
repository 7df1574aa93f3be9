"""What a Triton kernel compiles to, read without a GPU: registers, spills, shared memory, code.

Run `python -m memsolve_kernels.compiled [architecture ...]` for the table of every preset. A family
takes part by a module that defines `variants(arch)`, named in `FAMILIES`.
"""

import argparse
import importlib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

FAMILIES: tuple[str, ...] = (
    "memsolve_kernels.softmax.variants",
    "memsolve_kernels.matrix_sign.variants",
)
ARCHITECTURES = (80, 90, 100)
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes of a block, by NVIDIA
BLOCKED_BY_INTERPRETER = "kernels were defined under TRITON_INTERPRET=1 and cannot be compiled"

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", re.MULTILINE)
_TENSOR_CORE = re.compile(r"[HIBQD]G?MMA|UTC\w*MMA")
_INSTRUCTION_BYTES = 16


@dataclass(frozen=True)
class Variant:
    """A kernel with all that decides its machine code.

    Attributes:
        name: unique in the table, family first.
        kernel: the `triton.jit` function.
        arguments: Triton's type of each runtime argument, as "*bf16" or "i32". Those on which the
            kernel specialises are taken to be divisible by 16, as aligned tensors' strides are.
        constants: the value of each `constexpr`, and of arguments that Triton would make constant.
        num_warps: warps of a block.
        num_stages: depth of the software pipeline.
        tensor_cores: whether it should compile to tensor-core instructions.
    """

    name: str
    kernel: Any
    arguments: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int
    tensor_cores: bool


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


def variants(arch: int) -> Iterable[Variant]:
    """Every registered variant for an architecture, such as 90."""
    for family in FAMILIES:
        yield from importlib.import_module(family).variants(arch)


def resources(variant: Variant, arch: int) -> Resources:
    """Compile for `arch` and read the machine code.

    Raises:
        TypeError: the kernel was defined for Triton's interpreter.
    """
    if not isinstance(variant.kernel, triton.JITFunction):
        raise TypeError(f"{variant.name}: {BLOCKED_BY_INTERPRETER}")
    names = variant.kernel.arg_names
    compiled = triton.compile(
        ASTSource(
            variant.kernel,
            {name: variant.arguments.get(name, "constexpr") for name in names},
            dict(variant.constants),
            {
                (param.num,): [["tt.divisibility", 16]]
                for param in variant.kernel.params
                if param.name in variant.arguments and not param.do_not_specialize
            },
        ),
        target=GPUTarget("cuda", arch, 32),
        options={
            "num_warps": variant.num_warps,
            "num_stages": variant.num_stages,
            "enable_fp_fusion": True,
        },
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = _USAGE.search(_read("cuobjdump", "--dump-resource-usage", cubin.name))
        instructions = _INSTRUCTION.findall(_read("nvdisasm", "--print-code", cubin.name))
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


def _read(tool: str, *arguments: str) -> str:
    command = [str(_TOOLS / tool), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(architectures: Iterable[int] = ARCHITECTURES) -> None:
    """Print the table of every variant on each architecture."""
    print(f"triton {triton.__version__}; bytes, and registers of a thread")
    print(f"{'variant':<44}{'arch':>5}{'regs':>6}{'stack':>7}{'shared':>8}{'code':>8}{'tensor':>8}")
    for arch in architectures:
        for variant in variants(arch):
            r = resources(variant, arch)
            print(
                f"{variant.name:<44}{arch:>5}{r.registers:>6}{r.stack:>7}{r.shared:>8}{r.code:>8}"
                f"{r.tensor:>8}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m memsolve_kernels.compiled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("architectures", nargs="*", type=int, help=f"of {ARCHITECTURES}")
    given = parser.parse_args().architectures or ARCHITECTURES
    if unknown := set(given) - set(ARCHITECTURES):
        parser.error(f"no presets for {sorted(unknown)}; expected some of {ARCHITECTURES}")
    main(given)
