"""The softmax family inside torch: autograd, torch.compile, torch.library."""

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.dispatch import Backend
from memsolve_kernels.softmax import ops
from torch import Tensor

from tests.kernels.softmax_cases import Case


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_loss_is_twice_differentiable(backend: Backend) -> None:
    case = Case.random(4, 11, 3)

    def loss(queries: Tensor, weights: Tensor) -> Tensor:
        return mk.softmax_loss(queries, case.outputs, case.targets, weights, backend=backend)

    inputs = (case.queries.requires_grad_(), case.weights.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autograd_is_the_direct_gradient(dtype: torch.dtype) -> None:
    case = Case.random(4, 11, 3, dtype=dtype)
    queries = case.queries.clone().requires_grad_()
    loss = mk.softmax_loss(queries, *case.args[1:])
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    (product,) = torch.autograd.grad(gradient, queries, grad_outputs=case.queries)
    direct_loss, direct_gradient = mk.softmax_gradient(*case.args)
    direct_product = mk.softmax_hvp(case.queries, case.queries, *case.args[1:])
    torch.testing.assert_close(loss, direct_loss)
    torch.testing.assert_close(gradient, direct_gradient.to(dtype))
    torch.testing.assert_close(product, direct_product.to(dtype))


def test_autograd_keeps_the_gradient_of_a_recovered_item() -> None:
    case = Case.random(3, 9, 4).at_margin(70.0)
    queries = case.queries.clone().requires_grad_()
    (derived,) = torch.autograd.grad(mk.softmax_loss(queries, *case.args[1:]), queries)
    _, gradient = mk.softmax_gradient(*case.args)
    torch.testing.assert_close(derived, gradient, rtol=1e-12, atol=0)
    assert gradient.abs().max() < 1e-25


def test_a_third_derivative_is_refused() -> None:
    case = Case.random(2, 5, 3)
    queries = case.queries.requires_grad_()
    loss = mk.softmax_loss(queries, *case.args[1:])
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    (product,) = torch.autograd.grad(gradient.sum(), queries, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable twice"):
        torch.autograd.grad(product.sum(), queries)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own
def test_compiles_without_graph_breaks() -> None:
    case = Case.random(4, 50, 6)

    @torch.compile(fullgraph=True)
    def step(queries: Tensor) -> Tensor:
        return 2 * mk.softmax_loss(queries, *case.args[1:])

    @torch.compile(fullgraph=True, backend="aot_eager")
    def direct(queries: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        loss, gradient = mk.softmax_gradient(queries, *case.args[1:])
        product = mk.softmax_hvp(queries, queries, *case.args[1:])
        return loss, gradient, product, mk.retrieval(queries, *case.args[1:3]).margin

    queries = case.queries.clone().requires_grad_()
    (derived,) = torch.autograd.grad(step(queries), queries)
    loss, gradient = mk.softmax_gradient(*case.args)
    torch.testing.assert_close(derived, 2 * gradient)
    torch.testing.assert_close(
        direct(case.queries),
        (
            loss,
            gradient,
            mk.softmax_hvp(case.queries, case.queries, *case.args[1:]),
            mk.retrieval(*case.args[:3]).margin,
        ),
    )


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_operators_keep_the_rules_of_torch_library(dtype: torch.dtype, transposed: bool) -> None:
    q, v, y, _ = Case.random(5, 37, 7, dtype=dtype).args
    if transposed:
        q = q.T.contiguous().T
    torch.library.opcheck(ops.softmax_rank, (q, v, y, None, None))
    *odds, others = ops.softmax_odds(q, v, y, None, None)
    torch.library.opcheck(ops.softmax_curvature, (q, q, v, y, None, None))
    torch.library.opcheck(ops.softmax_covariance, (q, q, v, y, *odds, None, None))
    scale = odds[0].sigmoid()
    torch.library.opcheck(ops.softmax_outputs, (q, v, y, others, scale, None, None))
    torch.library.opcheck(ops.softmax_odds, (q.requires_grad_(), v, y, None, None))
