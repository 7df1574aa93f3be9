"""Studies on a simulated GPU: they run to their kernels, which take the types."""

from dataclasses import replace

import pytest
import torch

from memsolve import AssociativeMemory, normals
from memsolve.engine.cell import Cell
from memsolve.study import capacity

pytest.importorskip("triton")

from tests.faked_gpu import check, faked_gpu


@pytest.fixture(autouse=True)
def large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few draws, each of which takes a millisecond without drawing anything."""
    monkeypatch.setattr(normals, "BLOCK", 1 << 28)


@pytest.mark.parametrize("dim", [64, 1024])
def test_the_calls_of_a_study_to_a_memory_run_to_their_kernels(dim: int) -> None:
    with faked_gpu() as launches, torch.no_grad():
        memory = AssociativeMemory(4096, dim, 1.5, seed=0, device="cuda", dtype=torch.float32)
        weight, batch = torch.zeros(dim, dim, device="cuda"), memory.population()
        assert memory.gradient_at_zero(batch).shape == weight.shape
        assert not launches  # a closed form
        loss, gradient = memory.loss_and_gradient(weight, batch)
        assert (loss.shape, gradient.shape) == ((), weight.shape)
        first = len(launches)
        assert memory.hvp(weight, gradient, batch).shape == weight.shape
    assert 0 < first < len(launches)
    check(launches)


def test_a_step_of_the_capacity_study_runs_to_its_kernels() -> None:
    grid = replace(capacity.grid, dims=(64, 2048), seeds=1, device="cuda", dtype="float32")
    with faked_gpu() as launches:
        for dim in grid.dims:
            cells = [Cell(name, 1.5, dim, grid.items_of(dim), None, 0) for name in grid.labels]
            assert len(list(capacity.measure(grid, cells))) == len(cells)
    assert launches
    check(launches)
