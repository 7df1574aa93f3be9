"""What every kernel compiles to on each architecture, without a GPU."""

from functools import cache

import pytest

pytest.importorskip("triton")

from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.compiled import (
    Resources,
    ToolError,
    binaries,
    everywhere,
    resources,
    tool,
    variants,
)
from memsolve_kernels.launch import Variant


@cache
def compiled() -> dict[tuple[int, str], Resources]:
    """All of them, by the first test that asks, on all cores."""
    return {(arch, variant.name): used for arch, variant, used in everywhere(resources)}


@pytest.mark.parametrize(
    ("arch", "variant"),
    [
        pytest.param(arch, variant, id=f"sm_{arch} {variant.name}")
        for arch in COMPILED
        for variant in variants(arch)
    ],
)
def test_preset_fits_and_does_not_spill(arch: int, variant: Variant) -> None:
    used = compiled()[arch, variant.name]
    assert used.stack == 0
    assert 0 < used.registers <= 255
    assert used.shared <= COMPILED[arch].shared_bytes
    assert (used.tensor > 0) == variant.tensor_cores


def test_architectures_of_the_same_presets_get_the_same_ptx() -> None:
    """So that it is enough to make it once."""
    variant = next(iter(variants(86)))
    made = (binaries(variant, [arch])[0].ptx.replace(f"sm_{arch}", "sm") for arch in (86, 89))
    assert len(set(made)) == 1
    both = binaries(variant, [86, 89])
    assert [binary.arch for binary in both] == [86, 89]
    assert both[0].cubin != both[1].cubin


def test_a_missing_disassembler_is_told_in_a_line() -> None:
    with pytest.raises(ToolError, match="no such_tool, so that machine code cannot be read"):
        tool("such_tool", cubin=b"")
