"""Resources of every compiled kernel on each architecture, without a GPU."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("triton")

from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.compiled import (
    Resources,
    ToolError,
    binaries,
    everywhere,
    profile,
    resources,
    tool,
    variants,
)
from memsolve_kernels.launch import Variant

from tests.kernels import compiled_record


@cache
def compiled() -> dict[tuple[int, str], Resources]:
    """Resources of the variants that changed since the record, and of a sample of the others."""
    record = compiled_record.read()
    sampled = compiled_record.sample(record)

    def needed(arch: int, variant: Variant) -> bool:
        changed = compiled_record.recorded(record, arch, variant) is None
        return changed or compiled_record.name_of(arch, variant) in sampled

    return {
        (arch, variant.name): used for arch, variant, used in everywhere(resources, needed=needed)
    }


def named(arch: int, name: str) -> Variant:
    """One of them."""
    return next(variant for variant in variants(arch) if variant.name == name)


@pytest.mark.parametrize(
    ("arch", "variant"),
    [
        pytest.param(arch, variant, id=f"sm_{arch} {variant.name}")
        for arch in COMPILED
        for variant in variants(arch)
    ],
)
def test_preset_fits_and_does_not_spill(arch: int, variant: Variant) -> None:
    recorded = compiled_record.recorded(compiled_record.read(), arch, variant)
    used = compiled().get((arch, variant.name), recorded)
    assert used is not None
    assert recorded in (None, used)
    assert used.stack == 0
    assert 0 < used.registers <= 255
    assert used.shared <= COMPILED[arch].shared_bytes
    assert (used.tensor > 0) == variant.tensor_cores


def test_architectures_of_the_same_presets_get_the_same_ptx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is enough to make it once."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # PTX of another clone has its paths
    variant = next(iter(variants(86)))
    made = (binaries(variant, [arch])[0].ptx.replace(f"sm_{arch}", "sm") for arch in (86, 89))
    assert len(set(made)) == 1
    both = binaries(variant, [86, 89])
    assert [binary.arch for binary in both] == [86, 89]
    assert both[0].cubin != both[1].cubin


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        (80, "softmax.rank half d<=64"),
        (90, "softmax.rank half d<=64"),
        (90, "softmax.rank half d<=64 B<=16"),
        (100, "softmax.rank half d<=64"),
    ],
)
def test_ranks_keep_as_many_lanes_as_threads_share_a_row(arch: int, name: str) -> None:
    """Fewer meet by shuffles and shared memory in every tile; more take instructions in vain."""
    variant = named(arch, name)
    arguments = variant.launch.arguments

    def cycles(lanes: int) -> dict[str, float]:
        launch = replace(variant.launch, arguments={**arguments, "LANES": lanes})
        (binary,) = binaries(variant._replace(launch=launch), [arch])
        return profile(binary).loop.cycles

    lanes = arguments["LANES"]
    kept, doubled = cycles(lanes), cycles(2 * lanes)
    assert kept["shared"] <= doubled["shared"]
    assert kept["issue"] < doubled["issue"]
    if lanes > 1:
        halved = cycles(lanes // 2)
        assert kept["shared"] < halved["shared"]
        assert kept["issue"] < halved["issue"]


@pytest.mark.parametrize("name", ["softmax.odds half d<=64", "softmax.covariance half d<=64"])
def test_no_product_is_fused_with_a_sum(name: str) -> None:
    """The largest logit less itself is zero; fused it is what rounding left of it."""
    (binary,) = binaries(named(90, name), [90])
    assert "mul.rn.f32" in binary.ptx
    assert "fma.rn.f32" not in binary.ptx


def test_the_error_for_a_missing_disassembler_names_it() -> None:
    with pytest.raises(ToolError, match="no such_tool, so that machine code cannot be read"):
        tool("such_tool", cubin=b"")
