"""Which GPUs get the Triton kernels, and whose launch configurations; shown by faked devices."""

import pytest
import torch
from memsolve_kernels.architectures import COMPILED, TABLE, Architecture, with_fallbacks
from memsolve_kernels.dispatch import BackendName, architecture
from memsolve_kernels.errors import BackendError
from memsolve_kernels.matrix_sign.backends import select_iteration
from memsolve_kernels.matrix_sign.settings import Settings
from memsolve_kernels.softmax.backends import select_backend
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda", 0)


def pretend(patch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None = None) -> None:
    patch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    patch.setattr(torch.version, "hip", hip)


def selected(name: BackendName | None = None) -> set[str]:
    """Classes of both families' backends for half-precision tensors on the pretended GPU."""
    with FakeTensorMode():
        matrix = torch.empty(8, 8, dtype=torch.float16, device=CUDA)
    settings = Settings(matrix.dtype, matrix.dtype, backend=name)
    backends = select_backend(matrix, name, None), select_iteration(matrix, settings)
    return {type(backend).__name__ for backend in backends}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "sm_{}{}".format(*row.capability))
def test_a_known_gpu_runs_the_kernels(row: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    pretend(monkeypatch, row.capability)
    assert architecture(CUDA) is row
    assert selected() == {"TritonBackend"}


@pytest.mark.parametrize(
    ("capability", "hip"),
    [
        pytest.param((7, 5), None, id="older"),
        pytest.param((13, 0), None, id="newer"),
        pytest.param((9, 0), "6.4", id="MI200 of AMD"),  # its gfx90a reads as 9.0
        pytest.param((12, 0), "6.4", id="RX 9070 of AMD"),
    ],
)
def test_other_gpus_run_torch(
    capability: tuple[int, int], hip: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, capability, hip)
    assert architecture(CUDA) is None
    assert selected() == {"TorchBackend"}
    with pytest.raises(BackendError, match="no kernel"):
        selected("triton")


def test_an_architecture_without_a_row_takes_that_of_its_fallback() -> None:
    assert with_fallbacks({80: "a", 86: "b"}) == {80: "a", 86: "b", 120: "b"}
    assert with_fallbacks({80: "a"}) == {80: "a", 86: "a", 120: "a"}


def test_what_is_compiled_covers_all_presets() -> None:
    assert {row.preset_arch for row in COMPILED.values()} == {row.preset_arch for row in TABLE}
    for arch, row in COMPILED.items():
        assert divmod(arch, 10) == row.capability
        same = [other for other in TABLE if other.preset_arch == row.preset_arch]
        assert {other.shared_bytes for other in same} == {row.shared_bytes}


@pytest.mark.parametrize(
    ("arch", "registers", "shared", "warps", "blocks"),
    [
        (90, 128, 0, 4, 4),  # as registers allow
        (90, 255, 65536, 8, 1),
        (90, 32, 100 * 1024, 4, 2),  # as shared memory does
        (86, 32, 50 * 1024, 4, 1),
        (86, 16, 0, 8, 6),  # as threads do
        (90, 16, 0, 8, 8),
    ],
)
def test_what_a_block_needs_decides_how_many_fit(
    arch: int, registers: int, shared: int, warps: int, blocks: int
) -> None:
    assert COMPILED[arch].blocks(registers, shared, warps) == blocks
