"""The softmax kernels' table of launch configurations."""

import pytest
from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.softmax.plan import TileConfig, find_tile, tile_configs
from memsolve_kernels.softmax.presets import ANY_DIM, FEW, TABLE

ARCHS = sorted({row.preset_arch for row in COMPILED.values()})


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("kind", ["half", "tf32", "tf32x3", "ieee"])
@pytest.mark.parametrize("batch", [1, 8192])
def test_every_d_has_kernels(arch: int, kind: str, batch: int) -> None:
    assert find_tile("long_rank", kind, arch, 4096, batch) is not None
    add = find_tile("accumulate", kind, arch, 4096, batch)
    assert add is not None
    for name in ("weights", "centred", "output_weights", "entropy_weights"):
        weigh = find_tile(name, kind, arch, 4096, batch)
        assert weigh is not None
        assert weigh.block_n % add.block_n == 0


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("batch", "dim"), [(1, 100), (17, 64), (40, 128), (1000, 200)])
def test_a_call_gets_the_row_with_the_least_to_spare(arch: int, batch: int, dim: int) -> None:
    for name, kind in TABLE:
        tile = find_tile(name, kind, arch, dim, batch)
        if tile is not None and name not in ANY_DIM:
            rows = [row for row in tile_configs(name, kind, arch) if row.block_d >= dim]
            spare = [row for row in rows if row.block_d < tile.block_d]
            assert tile in rows
            assert all(row.block_b <= FEW < batch for row in spare)


def test_few_queries_get_a_small_tile() -> None:
    for arch in ARCHS:
        few, many = (find_tile("odds", "half", arch, 64, batch) for batch in (1, 17))
        assert few is not None
        assert many is not None
        assert few.block_b == FEW < many.block_b
    assert find_tile("odds", "half", 90, 512, FEW) is not None
    assert find_tile("odds", "half", 90, 512, FEW + 1) is None


@pytest.mark.parametrize(
    ("warps", "ctas_per_sm", "registers"), [(4, 4, 128), (4, 3, 168), (8, 1, None)]
)
def test_programs_on_the_same_sm_share_the_registers(
    warps: int, ctas_per_sm: int, registers: int | None
) -> None:
    assert TileConfig(64, 64, 64, warps, 3, ctas_per_sm).registers == registers
