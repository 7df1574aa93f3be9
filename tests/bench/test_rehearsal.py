"""A rehearsal of `make gpu` without a GPU: shapes, launches, and the types of kernels.

Tensors are fake, so no number is checked; but every implementation of every case runs, by autograd
and in CUDA graphs too, and each kernel passes Triton's front end with the types of its launch. What
`torch.compile` generates needs a GPU.
"""

from contextlib import suppress

import pytest
import torch

from bench.cases import CASES, softmax
from bench.registry import Case, Result, Unsupported, select

pytest.importorskip("triton")

from memsolve_kernels.architectures import COMPILED
from memsolve_kernels.compiled import binaries, resources, variants
from memsolve_kernels.launch import Launch, Variant, signature

from tests.faked_gpu import check, faked_gpu

GPU = select(CASES, "", "cuda")


def shapes(result: Result) -> list[torch.Size]:
    return [each.shape for each in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("case", GPU, ids=lambda case: case.name)
def test_a_case_runs_to_its_kernels_and_they_take_its_types(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "LOGITS_AT_ONCE", 1 << 40)  # fake ones take no memory
    monkeypatch.setattr("torch._C._can_use_cudnn_attention", lambda *arguments: False)
    with faked_gpu() as launches:
        inputs = case.make_inputs()
        exact = shapes(case.function.reference(inputs))
        launches.clear()
        assert shapes(case.ours.prepare(inputs)()) == exact
        own = list(launches)
        for each in case.function.implementations[1:]:
            if each.name == "torch.compile":
                continue
            with suppress(Unsupported):
                assert shapes(each.prepare(inputs)()) == exact or each.bound
    assert own or case.function.name.startswith("muon")  # whose products may all be BLAS's
    check(own)


def test_svds_that_take_minutes_are_left_out() -> None:
    timed = set()
    with faked_gpu():
        for case in GPU:
            for each in case.function.implementations:
                if "svd" in each.name:
                    try:
                        each.prepare(case.make_inputs())
                    except Unsupported:
                        continue
                    timed.add((case.function.name, case.format.name, case.size.k * case.size.n))
    assert timed == {
        *(("matrix_sign", "tf32x3", size) for size in (256, 512, 1024)),
        ("matrix_sign_damped", "tf32x3", 1024),
    }


def kind(launch: Launch) -> tuple[object, ...]:
    """All that decides the machine code except d and the properties of single numbers."""
    described = signature(launch)
    pointers = {name: kind for name, kind in described.types.items() if kind.startswith("*")}
    tile = {name: value for name, value in described.constants.items() if name.isupper()}
    return launch.kernel, str(pointers), str({**tile, "DIM": None})


def test_launches_without_a_compiled_check_are_compiled_here() -> None:
    """The checks have a preset in one half precision, and each kernel with every part of it."""
    covered = {kind(variant.launch) for variant in variants(90)}
    left: dict[tuple[object, ...], Launch] = {}
    for case in GPU:
        with faked_gpu() as launches:
            case.ours.prepare(case.make_inputs())()
        left |= {kind(each): each for each in launches if kind(each) not in covered}
    assert left
    for launch in left.values():
        (binary,) = binaries(Variant(launch.kernel.__name__, launch, tensor_cores=False), [90])
        used = resources(binary)
        assert used.stack == 0
        assert used.shared <= COMPILED[90].shared_bytes
