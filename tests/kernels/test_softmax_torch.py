"""The softmax family inside torch: autograd, torch.compile, torch.library."""

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.softmax import ops
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.kernels.softmax_cases import Case


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_loss_is_twice_differentiable(backend: BackendName) -> None:
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


class Every(torch.nn.Module):
    """All public functions, of a batch."""

    def forward(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        inputs = queries, outputs, targets
        return (
            mk.softmax_loss(*inputs),
            mk.softmax_loss(*inputs, ignore_index=3),
            mk.softmax_loss(*inputs, reduction="none"),
            *mk.softmax_gradient(*inputs),
            mk.softmax_hvp(queries, queries, outputs, targets),
            *mk.retrieval(*inputs),
        )


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # these two are torch's own
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_exports_with_any_batch_and_any_number_of_items(strict: bool) -> None:
    batch, items = torch.export.Dim("batch", min=2), torch.export.Dim("items", min=2)
    shapes = {"queries": {0: batch}, "outputs": {0: items}, "targets": {0: batch}}
    args = Case.random(4, 50, 6).args[:3]
    program = torch.export.export(Every(), args, dynamic_shapes=shapes, strict=strict)
    other = Case.random(9, 70, 6, seed=1).args[:3]
    torch.testing.assert_close(program.module()(*other), Every()(*other))


@pytest.mark.parametrize("size", [(4, 11, 3), (1, 11, 3), (4, 1, 3), (4, 11, 1)])
@pytest.mark.parametrize("layout", ["transposed", "every other", "expanded"])
def test_traced_results_have_the_strides_of_eager_ones(
    layout: str, size: tuple[int, int, int]
) -> None:
    def laid_out(rows: Tensor) -> Tensor:
        if layout == "transposed":
            return rows.T.contiguous().T
        if layout == "expanded":
            return rows[:1].expand_as(rows)
        return torch.stack([rows, rows], dim=-1)[..., 0]

    def results(queries: Tensor, outputs: Tensor, targets: Tensor) -> list[tuple[int, ...]]:
        queries, outputs = (each.detach().requires_grad_() for each in (queries, outputs))
        loss = mk.softmax_loss(queries, outputs, targets)
        gradients = torch.autograd.grad(loss, (queries, outputs))
        return [each.stride() for each in (*Every()(queries, outputs, targets), *gradients)]

    queries, outputs, targets = Case.random(*size).args[:3]
    args = laid_out(queries), laid_out(outputs), targets
    with FakeTensorMode() as mode:
        traced = results(*map(mode.from_tensor, args))
    assert traced == results(*args)


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
    torch.library.opcheck(ops.softmax_covariance, (q, None, v, y, *odds, None, None))
    torch.library.opcheck(ops.softmax_entropy, (q, v, y, *odds, None, None))
    for weights in ((scale, None, None), (scale, scale, -scale)):
        inputs = q, v, y, others, *weights
        torch.library.opcheck(ops.softmax_outputs, (*inputs, None, None, None))
        torch.library.opcheck(ops.softmax_outputs, (*inputs, 2, None, None))
    for column in (None, 2):
        of_both = q, v, y, *odds, others, *weights, column
        torch.library.opcheck(ops.softmax_entropy_gradients, (*of_both, None, None))
    torch.library.opcheck(ops.softmax_odds, (q.requires_grad_(), v, y, None, None))
