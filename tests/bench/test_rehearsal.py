"""What `make gpu` will run, rehearsed without a GPU: shapes, launches, and the types of kernels.

Tensors are fake, so no number is checked; but every way of every case runs, by autograd and in
CUDA graphs too, and each kernel passes Triton's front end with the types that its launch gives it.
What `torch.compile` generates needs a GPU.
"""

from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from bench.cases import CASES, softmax
from bench.registry import Case, Result, Unsupported, matching
from memsolve import AssociativeMemory
from memsolve.engine.cell import Cell
from memsolve.study.one_step.capacity import capacity

pytest.importorskip("triton")

from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.compiled import binaries, resources, variants
from memsolve_kernels.launch import Launch, Variant, signature

from tests.faked_gpu import check, faked_gpu

GPU = matching(CASES, "", "cuda")


def shapes(result: Result) -> list[torch.Size]:
    return [each.shape for each in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("case", GPU, ids=lambda case: case.name)
def test_a_case_runs_to_its_kernels_and_they_take_its_types(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "LOGITS_AT_ONCE", 1 << 40)  # fake ones take no memory
    monkeypatch.setattr(
        "torch._C._can_use_cudnn_attention", lambda *asked: False
    )  # it asks a driver
    with faked_gpu() as launches:
        given = case.inputs()
        truth = shapes(case.function.reference(given))
        launches.clear()
        assert shapes(case.function.ours.prepare(given)()) == truth
        kept = list(launches)
        for way in case.function.ways[1:]:
            if way.name == "torch.compile":
                continue
            with suppress(Unsupported):
                assert shapes(way.prepare(given)()) == truth or way.bound
    assert kept or case.function.name.startswith("muon")  # whose products may all be BLAS's
    check(kept)


def test_svds_that_take_minutes_are_left_out() -> None:
    timed = set()
    with faked_gpu():
        for case in GPU:
            for way in case.function.ways:
                if "svd" in way.name:
                    try:
                        way.prepare(case.inputs())
                    except Unsupported:
                        continue
                    timed.add((case.function.name, case.format.name, case.size.k * case.size.n))
    assert timed == {
        *(("matrix_sign", "tf32x3", size) for size in (256, 512, 1024)),
        ("matrix_sign_damped", "tf32x3", 1024),
    }


@pytest.mark.parametrize("dim", [64, 1024])
def test_what_a_study_asks_of_a_memory_runs_to_its_kernels(dim: int) -> None:
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


def kind(launch: Launch) -> tuple[object, ...]:
    """What decides the machine code but for d and what is known of single numbers."""
    described = signature(launch)
    pointers = {name: kind for name, kind in described.types.items() if kind.startswith("*")}
    tile = {name: value for name, value in described.constants.items() if name.isupper()}
    return launch.kernel, str(pointers), str({**tile, "DIM": None})


def test_what_no_compiled_check_covers_is_compiled_for_the_gpu() -> None:
    """The checks have a preset in one half precision, and each kernel with every part of it."""
    covered = {kind(variant.launch) for variant in variants(90)}
    left: dict[tuple[object, ...], Launch] = {}
    for case in GPU:
        with faked_gpu() as launches:
            case.function.ours.prepare(case.inputs())()
        left |= {kind(each): each for each in launches if kind(each) not in covered}
    assert left
    for launch in left.values():
        (binary,) = binaries(Variant(launch.kernel.__name__, launch, tensor_cores=False), [90])
        used = resources(binary)
        assert used.stack == 0
        assert used.shared <= COMPILED[90].shared_bytes
