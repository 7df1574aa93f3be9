"""What every kernel compiles to on each architecture, without a GPU."""

import pytest

pytest.importorskip("triton")

from memsolve_kernels.compiled import ARCHITECTURES, SHARED_LIMIT, Variant, resources, variants


@pytest.mark.parametrize(
    ("arch", "variant"),
    [
        pytest.param(arch, variant, id=f"sm_{arch} {variant.name}")
        for arch in ARCHITECTURES
        for variant in variants(arch)
    ],
)
def test_preset_fits_and_does_not_spill(arch: int, variant: Variant) -> None:
    used = resources(variant, arch)
    assert used.stack == 0
    assert 0 < used.registers <= 255
    assert used.shared <= SHARED_LIMIT[arch]
    assert (used.tensor > 0) == variant.tensor_cores
