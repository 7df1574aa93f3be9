"""What every softmax kernel compiles to on each architecture, without a GPU."""

import pytest

pytest.importorskip("triton")

from memsolve_kernels.compiled import ARCHITECTURES, SHARED_LIMIT, resources
from memsolve_kernels.softmax.presets import TABLE, TILED, find
from memsolve_kernels.softmax.variants import variants


@pytest.mark.parametrize(
    ("arch", "variant"),
    [
        pytest.param(arch, variant, id=f"sm_{arch} {variant.name}")
        for arch in ARCHITECTURES
        for variant in variants(arch)
    ],
)
def test_preset_fits_and_does_not_spill(arch, variant) -> None:  # type: ignore[no-untyped-def]
    used = resources(variant, arch)
    assert used.stack == 0
    assert 0 < used.registers <= 255
    assert used.shared <= SHARED_LIMIT[arch]
    assert (used.tensor > 0) == variant.tensor_cores


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["half", "tf32", "tf32x3", "ieee"])
def test_every_d_has_kernels(arch: int, kind: str) -> None:
    assert find("rank", kind, arch, 4096, 8192) is not None
    add = find("accumulate", kind, arch, 4096, 8192)
    assert add is not None
    for family in ("weights", "centred"):
        weigh = find(family, kind, arch, 4096, 8192)
        assert weigh is not None
        assert weigh.block_n % add.block_n == 0


def test_rows_serve_ever_larger_d() -> None:
    for (family, _), architectures in TABLE.items():
        for rows in architectures.values():
            dims = [row[2] for row in rows]
            assert dims == sorted(set(dims))
            assert len(rows) == 1 or family not in TILED


def test_few_queries_get_a_small_tile() -> None:
    for arch in ARCHITECTURES:
        blocks = []
        for batch in (1, 17, 65):
            preset = find("odds", "half", arch, 64, batch)
            assert preset is not None
            blocks.append(preset.block_b)
        assert blocks == [16, 64, 128]
