"""The softmax kernels' table of launch configurations."""

import pytest
from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.softmax.presets import FEW, TABLE, TILED, Preset, find, presets

PRESETS = sorted({row.presets for row in COMPILED.values()})


@pytest.mark.parametrize("arch", PRESETS)
@pytest.mark.parametrize("kind", ["half", "tf32", "tf32x3", "ieee"])
@pytest.mark.parametrize("batch", [1, 8192])
def test_every_d_has_kernels(arch: int, kind: str, batch: int) -> None:
    assert find("long_rank", kind, arch, 4096, batch) is not None
    add = find("accumulate", kind, arch, 4096, batch)
    assert add is not None
    for family in ("weights", "centred", "pulls"):
        weigh = find(family, kind, arch, 4096, batch)
        assert weigh is not None
        assert weigh.block_n % add.block_n == 0


@pytest.mark.parametrize("arch", PRESETS)
@pytest.mark.parametrize(("batch", "dim"), [(1, 100), (17, 64), (40, 128), (1000, 200)])
def test_a_call_gets_the_row_with_the_least_to_spare(arch: int, batch: int, dim: int) -> None:
    for family, kind in TABLE:
        found = find(family, kind, arch, dim, batch)
        if found is not None and family not in TILED:
            rows = [row for row in presets(family, kind, arch) if row.block_d >= dim]
            spare = [row for row in rows if row.block_d < found.block_d]
            assert found in rows
            assert all(row.block_b <= FEW < batch for row in spare)


def test_few_queries_get_a_small_tile() -> None:
    for arch in PRESETS:
        few, many = (find("odds", "half", arch, 64, batch) for batch in (1, 17))
        assert few is not None
        assert many is not None
        assert few.block_b == FEW < many.block_b
    assert find("odds", "half", 90, 512, FEW) is not None
    assert find("odds", "half", 90, 512, FEW + 1) is None


@pytest.mark.parametrize(
    ("warps", "together", "registers"), [(4, 4, 128), (4, 3, 168), (8, 1, None)]
)
def test_programs_that_run_together_share_the_registers(
    warps: int, together: int, registers: int | None
) -> None:
    assert Preset(64, 64, 64, warps, 3, together).registers == registers
