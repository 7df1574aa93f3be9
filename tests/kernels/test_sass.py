"""Counts of machine code, by small listings in the format of nvdisasm."""

import pytest
from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.sass import count, main_loop, parse

HOPPER = COMPILED[90]


def listing(*lines: str) -> str:
    """A function of these instructions; a line that ends in a colon is a label."""
    text, address = ["\t.section\t.text.kernel"], 0
    for line in lines:
        if line.endswith(":"):
            text.append(line)
        else:
            text.append(f"        /*{address:04x}*/   {line} ;")
            address += 16
    return "\n".join(text)


def loop(*body: str) -> str:
    """Something before, a loop of these instructions, and the end."""
    return listing("MOV R1, R2", ".L_x_1:", *body, "@P0 BRA `(.L_x_1)", "EXIT")


def test_each_pipe_holds_what_runs_on_it() -> None:
    result = count(
        loop(
            *["FFMA R1, R2, R3, R4"] * 3,
            *["IADD3 R1, R2, R3, RZ"] * 5,
            "IMAD.WIDE R1, R2, R3, R4",
            *["@!P1 MUFU.EX2 R1, R2"] * 2,
            "@!PT LDS.128 R4, [R5]",  # never runs
            "LDS.128 R4, [R5]",
        ),
        8,
        HOPPER,
    )
    each = 8 / 4  # warps over quarters
    assert result.cycles == {
        "tensor": 0,
        "issue": 14 * each,
        "float": (3 + 2 / 2) * each,
        "integer": 5 * 2 * each,
        "special": 2 * 8 * each,
        "shared": 32 * 16 * 8 / 128,
    }
    assert result.code == 16 * 16
    assert result.overlap == result.serial == 2 * 8 * each


def test_floats_of_the_oldest_take_twice_as_long() -> None:
    text = loop(*["FADD R1, R2, R3"] * 20)
    assert count(text, 4, COMPILED[80]).cycles["float"] == 40
    assert count(text, 4, COMPILED[86]).cycles["float"] == 20


@pytest.mark.parametrize(
    ("arch", "product", "warps", "multiply_adds", "cycles"),
    [
        (90, "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0", 4, 64 * 128 * 16, 64),
        (90, "HGMMA.64x128x8.F32.TF32 R24, R4, gdesc[UR4], R24, gsb0", 4, 64 * 128 * 8, 64),
        (80, "HMMA.16816.F32.BF16 R4, R8, R12, R4", 1, 16 * 8 * 16, 2),
        (80, "HMMA.1688.F32.TF32 R4, R8, R12, R4", 1, 16 * 8 * 8, 2),
        (100, "UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8]", 4, 0, 0),
    ],
)
def test_products_have_their_size(
    arch: int, product: str, warps: int, multiply_adds: float, cycles: float
) -> None:
    result = count(loop(product), warps, COMPILED[arch])
    assert result.products == multiply_adds
    assert result.cycles["tensor"] == cycles
    assert result.pattern == "P"


def test_operands_in_registers_spare_shared_memory() -> None:
    both = count(loop("HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24"), 4, HOPPER)
    one = count(loop("HGMMA.64x128x16.F32.BF16 R24, R4, gdesc[UR4], R24"), 4, HOPPER)
    assert both.cycles["shared"] == (64 + 128) * 32 / 128
    assert one.cycles["shared"] == 128 * 32 / 128


def test_the_pattern_shows_what_waits_for_what() -> None:
    result = count(
        loop(
            "DEPBAR.LE SB0, 0x1",
            "BAR.SYNC.DEFER_BLOCKING 0x0",
            "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], RZ, !UPT",
            "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24, gsb0",
            "WARPGROUP.DEPBAR.LE gsb0, 0x0",
            *["MUFU.EX2 R1, R2"] * 2,
            "F2F.BF16.F32 R1, R2",
            "F2FP.BF16.F32.PACK_AB R1, R2, R3",
            "F2F.F64.F32 R2, R1",
        ),
        4,
        HOPPER,
    )
    assert (result.pattern, result.waits, result.unpacked) == ("c b P w0 x", 3, 1)


def test_what_a_branch_may_jump_over_is_rare_unless_it_multiplies() -> None:
    masks = ["@P1 BRA `(.L_x_2)", *["FSEL R1, R2, R3, P2"] * 9, ".L_x_2:"]
    assert count(loop("FADD R1, R2, R3", *masks), 4, HOPPER).cycles["integer"] == 0
    products = ["@P1 BRA `(.L_x_2)", "HMMA.16816.F32 R4, R8, R12, R4", ".L_x_2:"]
    assert count(loop(*products, "FADD R1, R2, R3"), 4, HOPPER).products == 16 * 8 * 16 * 4


def test_the_main_loop_is_the_outermost_that_multiplies() -> None:
    text = listing(
        ".L_x_1:",
        *["FADD R1, R2, R3"] * 9,
        "@P0 BRA `(.L_x_1)",  # longer, but without a product
        ".L_x_2:",
        "FMUL R1, R2, R3",
        ".L_x_3:",
        "HMMA.16816.F32.BF16 R4, R8, R12, R4",
        "@P0 BRA `(.L_x_3)",
        "@P1 BRA `(.L_x_2)",
        "EXIT",
        ".L_x_4:",
        "SYNCS.PHASECHK P1, [R1]",  # the retry of a wait, beyond the end
        "BRA `(.L_x_2)",
    )
    assert [i.name for i in main_loop(parse(text))] == ["FMUL", "HMMA", "BRA", "BRA"]


def test_code_without_a_loop_is_counted_whole() -> None:
    result = count(listing("FADD R1, R2, R3", "@P0 EXIT", "MUFU.EX2 R1, R2", "EXIT"), 4, HOPPER)
    assert result.cycles["issue"] == 4


def test_the_longest_function_is_the_kernel() -> None:
    text = listing("EXIT") + "\n" + listing("FADD R1, R2, R3", "EXIT")
    assert len(parse(text).instructions) == 2
