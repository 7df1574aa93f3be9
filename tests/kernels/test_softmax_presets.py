"""The softmax kernels' table of launch configurations."""

import pytest
from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.softmax.presets import TABLE, TILED, find

PRESETS = sorted({row.presets for row in COMPILED.values()})


@pytest.mark.parametrize("arch", PRESETS)
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
    for arch in PRESETS:
        blocks = []
        for batch in (1, 17, 65):
            preset = find("odds", "half", arch, 64, batch)
            assert preset is not None
            blocks.append(preset.block_b)
        assert blocks == [16, 64, 128]
