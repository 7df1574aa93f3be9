"""The softmax family under torch.autocast, whose products would be in half precision."""

from collections.abc import Callable, Iterator

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.dispatch import BackendName
from torch import Tensor

from tests.kernels.softmax_cases import Case

BACKENDS: list[BackendName] = ["reference", "torch"]
HALF = [torch.bfloat16, torch.float16]
quiet = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own


@pytest.fixture(autouse=True)
def forget_what_was_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def everything(case: Case, backend: BackendName) -> list[Tensor]:
    """Loss, first and second derivatives with and without a graph, and statistics."""
    queries, directions = case.queries.clone().requires_grad_(), case.queries.flip(0)
    loss = mk.softmax_loss(queries, *case.args[1:], backend=backend)
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    (product,) = torch.autograd.grad(gradient, queries, directions)
    return [
        loss, gradient, product,
        mk.softmax_loss(*case.args, backend=backend),
        *mk.softmax_gradient(*case.args, backend=backend),
        mk.softmax_hvp(case.queries, directions, *case.args[1:], backend=backend),
        *mk.retrieval(*case.args[:3], backend=backend),
    ]  # fmt: skip


@pytest.mark.parametrize("lowered", HALF)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_those_without(
    backend: BackendName, dtype: torch.dtype, lowered: torch.dtype
) -> None:
    case = Case.random(5, 300, 16, dtype=dtype, scale=3.0)
    exact = everything(case, backend)
    with torch.autocast("cpu", dtype=lowered):
        torch.testing.assert_close(everything(case, backend), exact, rtol=0, atol=0)


@quiet
@pytest.mark.parametrize("lowered", HALF)
def test_compiled_results_are_those_without(lowered: torch.dtype) -> None:
    case = Case.random(5, 300, 16, dtype=torch.float32, scale=3.0)

    def step(queries: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", dtype=lowered):
            loss = mk.softmax_loss(queries, *case.args[1:])
            return loss, mk.softmax_hvp(queries.detach(), case.queries, *case.args[1:])

    def derived(step: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        queries = case.queries.clone().requires_grad_()
        loss, product = step(queries)
        return *torch.autograd.grad(loss, queries), loss.detach(), product

    torch.testing.assert_close(
        derived(torch.compile(step, fullgraph=True, backend="aot_eager")),
        derived(step),
        rtol=1e-6,
        atol=1e-7,
    )


def test_a_sum_beyond_float16_is_finite() -> None:
    case = Case.random(70_000, 3, 2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = mk.softmax_loss(*case.args[:3], torch.ones(70_000))
    assert 65504 < loss < torch.inf


@pytest.mark.parametrize("weight", [1.0, 1e-8])
def test_a_scaled_loss_gives_the_scaled_gradient(weight: float) -> None:
    case = Case.random(8, 30, 4, dtype=torch.float32)
    weights, queries = torch.full((8,), weight), case.queries.clone().requires_grad_()
    scaler = torch.amp.GradScaler("cpu")  # by 65536
    with torch.autocast("cpu", dtype=torch.float16):
        loss = mk.softmax_loss(queries, case.outputs, case.targets, weights)
    scaler.scale(loss).backward()
    assert queries.grad is not None
    _, gradient = mk.softmax_gradient(case.queries, case.outputs, case.targets, weights)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(queries.grad / 65536, gradient, rtol=1e-6, atol=0)
