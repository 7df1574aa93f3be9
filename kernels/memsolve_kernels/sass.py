"""Instruction counts of the main loop in a kernel's machine code (SASS): exact, without a GPU.

Each instruction occupies one pipe of a quarter SM for some cycles. The busiest pipe is a lower
bound on an iteration (`overlap`); products and everything else in sequence give the time without
any overlap (`serial`). The count ignores latencies, memory beyond the SM, bank conflicts, and how
often an inner loop or a branch runs: an inner loop counts once, and code that a branch can skip
within the loop is assumed to be rare and not counted, unless it multiplies.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memsolve_kernels.architectures import Architecture

WARP, QUARTERS = 32, 4  # threads of a warp; parts of an SM, each issuing one warp a cycle

# The pipe of each instruction. By the CUDA programming guide's table of throughputs, a warp takes
# one cycle for floats, two for integers and eight for special functions. Other instructions
# (control, uniform registers, barriers) only take an issue slot.
_NAMES = {
    "float": "FFMA FADD FMUL FFMA2 FADD2 FMUL2 HFMA2 HADD2 HMUL2",
    "integer": """ISETP FSEL SEL FMNMX FMNMX3 IMNMX VIMNMX VIADD VIADDMNMX IADD3 IADD LOP3 SHF SHL
        SHR PRMT LEA MOV FSETP FSET PLOP3 P2R R2P F2FP IABS BMSK SGXT FCHK VABSDIFF HMNMX2 HSETP2
        I2FP I2IP F2IP CS2R R2UR VOTE MATCH REDUX""",
    "multiply": "IMAD IDP",  # integers, by half of the float pipe
    "special": "MUFU F2F F2I I2F FRND POPC FLO BREV",
}
PIPE = {name: pipe for pipe, names in _NAMES.items() for name in names.split()}
SHARED_BYTES = 128.0  # of shared memory, per clock and SM
SYNCHRONOUS = 0.62  # share of the peak of sm_90 that mma.sync reaches, arXiv:2402.13499

_LABEL = re.compile(r"^(\.L_x_\d+):")
_LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z]\w*)((?:\.\w+)*)\s*(.*?)\s*;")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_TO_HALF = re.compile(r"\.B?F16\.F32")
_BITS = re.compile(r"\.(U?8|S8|U?16|S16|32|64|128)\b")
_SHAPE = {  # m * n * k of a warp's product
    "16816": 16 * 8 * 16,
    "1688": 16 * 8 * 8,
    "1684": 16 * 8 * 4,
}


class Instruction(NamedTuple):
    """One instruction: `@!P0 HMMA.16816.F32.BF16 R4, ...` has a name, modifiers and arguments."""

    address: int
    predicate: str
    name: str
    modifiers: str
    arguments: str

    @property
    def always(self) -> bool:
        """Whether it runs whenever it is reached."""
        return not self.predicate and not re.search(r"\bU?P\d", self.arguments)


class Code(NamedTuple):
    """Instructions in order, and the addresses of the labels."""

    instructions: list[Instruction]
    labels: dict[str, int]

    def target(self, instruction: Instruction) -> int | None:
        """The address that a branch goes to."""
        match = _TARGET.search(instruction.arguments) if instruction.name == "BRA" else None
        return self.labels.get(match[1]) if match else None


@dataclass(frozen=True)
class Count:
    """The main loop of a kernel, one iteration of one block.

    Attributes:
        code: bytes of the kernel.
        products: multiply-adds on tensor cores; zero if the machine code does not contain their
            sizes, as on sm_100.
        cycles: of an SM, by pipe: tensor, issue, float, integer, special, shared.
        unpacked: conversions to half precision one by one, on the pipe for special functions.
        waits: number of waits for products, copies and barriers.
        pattern: their sequence: P a group of products, w a wait for products and the number of
            groups that may remain, c a wait for copies, b a barrier, x special functions.
    """

    code: int
    products: float
    cycles: dict[str, float]
    unpacked: int
    waits: int
    pattern: str

    @property
    def overlap(self) -> float:
        """Cycles of the busiest pipe."""
        return max(self.cycles.values())

    @property
    def serial(self) -> float:
        """Cycles of the products, then of the busiest other pipe."""
        rest = (cycles for pipe, cycles in self.cycles.items() if pipe not in ("tensor", "shared"))
        return max(self.cycles["tensor"] + max(rest), self.cycles["shared"])


def parse(text: str) -> Code:
    """The longest function that nvdisasm prints."""
    functions: list[Code] = [Code([], {})]
    waiting: list[str] = []
    for line in text.splitlines():
        if line.startswith("\t.section"):
            functions.append(Code([], {}))
        elif label := _LABEL.match(line):
            waiting.append(label[1])
        elif match := _LINE.match(line):
            address = int(match[1], 16)
            functions[-1].labels.update(dict.fromkeys(waiting, address))
            waiting.clear()
            predicate = (match[2] or "").strip()
            instruction = Instruction(address, predicate, match[3], match[4], match[5])
            functions[-1].instructions.append(instruction)
    return max(functions, key=lambda code: len(code.instructions))


def count(text: str, warps: int, row: Architecture) -> Count:
    """Count the main loop in the output of nvdisasm, for a block of so many warps."""
    code = parse(text)
    body = list(likely(code, main_loop(code)))
    products, tensor = _products(body, row)
    return Count(
        code=16 * len(code.instructions),
        products=products * warps,
        cycles={"tensor": tensor * warps} | _cycles(body, warps, row),
        unpacked=sum(i.name == "F2F" and _TO_HALF.match(i.modifiers) is not None for i in body),
        waits=sum(token[0] in "wcb" for token in tokens(body)),
        pattern=" ".join(tokens(body)),
    )


def main_loop(code: Code) -> list[Instruction]:
    """The outermost loop with the most products, or the longest; all code without a loop.

    A loop extends from the target of a backward branch to the branch. Backward branches from beyond
    the end of the kernel, such as the retry of a wait, do not count.
    """
    loops = []
    for instruction in code.instructions:
        target = code.target(instruction)
        if target is not None and target < instruction.address:
            body = [i for i in code.instructions if target <= i.address <= instruction.address]
            if not any(i.name in ("EXIT", "RET") and i.always for i in body):
                loops.append(body)
    return max(
        loops,
        key=lambda body: (sum(map(_multiplies, body)), len(body)),
        default=code.instructions,
    )


def likely(code: Code, body: Sequence[Instruction]) -> Iterator[Instruction]:
    """The body without code that forward branches can skip, unless it multiplies."""
    until = -1
    for instruction in body:
        if instruction.address < until:
            continue
        yield instruction
        target = code.target(instruction)
        if target is not None and instruction.address < target <= body[-1].address:
            skipped = [i for i in body if instruction.address < i.address < target]
            until = until if any(map(_multiplies, skipped)) else target


def tokens(body: Iterable[Instruction]) -> list[str]:
    """The pattern of waits, without repetitions: see `Count.pattern`."""
    pattern: list[str] = []
    for i in body:
        token = ""
        if _multiplies(i) and (not i.name.endswith("GMMA") or "gsb0" in i.arguments):
            token = "P"
        elif i.name == "WARPGROUP" and ".DEPBAR" in i.modifiers:
            token = "w" + str(int(i.arguments.rpartition(",")[2], 16))
        elif i.name in ("DEPBAR", "SYNCS"):
            token = "c"
        elif i.name == "BAR":
            token = "b"
        elif i.name == "MUFU":
            token = "x"
        if token and (not pattern or pattern[-1] != token or token[0] in "wcb"):
            pattern.append(token)
    return pattern


def _multiplies(i: Instruction) -> bool:
    """Whether the instruction multiplies on tensor cores."""
    return i.name.endswith("MMA") and i.predicate != "@!PT"


def _multiply_adds(i: Instruction) -> float:
    """Multiply-adds of one warp; zero if a descriptor contains the size, as on sm_100."""
    if i.name.endswith("GMMA"):
        m, n, k = map(int, i.modifiers.split(".")[1].split("x"))
        return m * n * k / 4  # a group of four warps
    if i.name == "HMMA":
        return float(_SHAPE[i.modifiers.split(".")[1]])
    return 0.0


def _products(body: Iterable[Instruction], row: Architecture) -> tuple[float, float]:
    """Multiply-adds of one warp, and their cycles on an SM."""
    total = cycles = 0.0
    for i in body:
        rate = row.products / (2 if "TF32" in i.modifiers else 1)
        if row.capability == (9, 0) and i.name == "HMMA":
            rate *= SYNCHRONOUS
        total += _multiply_adds(i)
        cycles += _multiply_adds(i) / rate
    return total, cycles


def _cycles(body: Sequence[Instruction], warps: int, row: Architecture) -> dict[str, float]:
    """Cycles of an SM by pipe, without the tensor cores."""
    counts: Counter[str] = Counter()
    for i in body:
        if i.predicate != "@!PT":
            counts[PIPE.get(i.name, "")] += 1
    narrow = row.floats < WARP * QUARTERS  # half a warp a cycle; multiplications use the full pipe
    number, multiply = counts["float"] * (2 if narrow else 1), 2 * counts["multiply"]
    busy = {
        "issue": len(body),
        "float": number + multiply if narrow else max(number + multiply / 2, multiply),
        "integer": 2 * counts["integer"],
        "special": 8 * counts["special"],
    }
    shared = sum(map(_shared_bytes, body)) * warps / SHARED_BYTES
    return {pipe: cycles * warps / QUARTERS for pipe, cycles in busy.items()} | {"shared": shared}


def _shared_bytes(i: Instruction) -> float:
    """Bytes of one warp through the data path of shared memory."""
    if i.predicate == "@!PT":
        return 0.0
    if i.name in ("LDSM", "STSM"):
        matrices = re.search(r"88\.(\d)$", i.modifiers)
        return 128.0 * int(matrices[1]) if matrices else 128.0
    if i.name in ("LDS", "STS", "ATOMS", "LDGSTS", "LDG", "STG", "LDL", "STL"):
        bits = _BITS.search(i.modifiers)
        return WARP * int(bits[1].strip("US")) / 8 if bits else 4.0 * WARP
    if i.name == "SHFL":
        return 4.0 * WARP
    if i.name.endswith("GMMA"):
        m, n, _ = map(int, i.modifiers.split(".")[1].split("x"))
        from_shared = not re.match(r"R\d+, R\d+", i.arguments)
        return (n + m * from_shared) * 32 / 4  # rows of 32 bytes, whatever the dtype
    return 0.0
