"""What `make gpu` will run, rehearsed without a GPU: shapes, launches, and the types of kernels.

Tensors are fake, so no number is checked; but every case goes its whole way to the launch of its
kernels, and each of these passes Triton's front end with the types that the launch gives it. What
autograd does needs a torch with CUDA, even of fake tensors.
"""

from contextlib import suppress

import pytest
import torch

from bench.cases import CASES, softmax
from bench.registry import Case, Result, Unsupported, matching
from memsolve import AssociativeMemory

pytest.importorskip("triton")

from tests.faked_gpu import check, faked_gpu

GPU = matching(CASES, "", "cuda")
NEEDS_CUDA = "autograd", "cross_entropy", "compile", "liger", "graph"


def shapes(result: Result) -> list[torch.Size]:
    return [each.shape for each in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("case", GPU, ids=lambda case: case.name)
def test_a_case_runs_to_its_kernels_and_they_take_its_types(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "LOGITS_AT_ONCE", 1 << 40)  # fake ones take no memory
    with faked_gpu() as launches:
        given = case.inputs()
        truth = shapes(case.function.reference(given))
        launches.clear()
        assert shapes(case.function.ours.prepare(given)()) == truth
        kept = list(launches)
        for way in case.function.ways[1:]:
            if any(word in way.name for word in NEEDS_CUDA):
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
    """But for recall, whose shapes depend on numbers."""
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
