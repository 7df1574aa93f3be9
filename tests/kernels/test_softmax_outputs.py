"""The gradient of the softmax loss by the outputs, as a head that trains needs it."""

import itertools
from collections.abc import Callable

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.softmax import interface
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.partials import LogitWeights
from memsolve_kernels.softmax.torch_backend import TorchBackend
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.measure import extra_bytes
from tests.kernels.softmax_cases import Case, by_torch, exact_rows, gradients, ours, relative_error
from tests.kernels.softmax_full import SUMS_OF_WEIGHTS, bias_error, by_bias, random_bias

BACKENDS: list[BackendName] = ["reference", "torch"]
SIZES = [(5, 37, 7), (1, 1, 1), (3, 1, 4), (1, 300, 1), (7, 2, 3), (1100, 5, 2), (4, 1300, 6)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_equals_autograd_through_all_logits(
    backend: BackendName, size: tuple[int, int, int]
) -> None:
    case = Case.random(*size, scale=3.0)
    torch.testing.assert_close(ours(case, backend), by_torch(case))


def test_is_the_derivative_of_the_loss() -> None:
    case = Case.random(4, 11, 3)
    inputs = case.queries.requires_grad_(), case.outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda q, v: mk.softmax_loss(q, v, *case.args[2:]), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(64, 2000, 32), (129, 257, 65), (40, 5000, 128)])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_errs_no_more_than_twice_torch(
    dtype: torch.dtype, size: tuple[int, int, int], scale: float
) -> None:
    case = Case.random(*size, dtype=dtype, scale=scale)
    truth, results, peer = ours(case.to(torch.float64), "reference"), ours(case), by_torch(case)
    for each, theirs, exact in zip(results, peer, truth, strict=True):
        assert relative_error(each, exact) <= max(
            2 * relative_error(theirs, exact), torch.finfo(theirs.dtype).eps
        )


def test_a_recovered_item_keeps_its_gradient() -> None:
    case = Case.random(1, 9, 4).at_margin(70.0)
    _, (row,) = exact_rows(case, digits=200)
    size = sum(float(each) ** 2 for each in row) ** 0.5
    _, by_queries, by_outputs = ours(case)
    assert abs(float(by_queries.norm() / case.weights[0]) / size - 1) < 1e-10
    own = by_outputs[case.targets[0]]
    others = by_outputs.sum(0) - own
    torch.testing.assert_close(own, -others, rtol=1e-10, atol=0)
    assert 0 < own.norm() < 1e-25


def test_a_tied_classifier_sums_both_parts() -> None:
    tokens, case = torch.tensor([3, 1, 3, 8]), Case.random(4, 9, 5)

    def gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        table = case.outputs.clone().requires_grad_()
        loss(torch.tanh(table[tokens]), table).backward()
        assert table.grad is not None
        return table.grad

    torch.testing.assert_close(
        gradient(lambda q, v: mk.softmax_loss(q, v, case.targets)),
        gradient(lambda q, v: cross_entropy(q @ v.T, case.targets)),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_bias_is_as_exact_as_the_products(dtype: torch.dtype) -> None:
    case, bias = Case.random(12, 50, 16, dtype=dtype, scale=3.0), random_bias(50)
    loss = mk.softmax_loss(*case.args[:3], bias=bias)
    logits = case.queries.double() @ case.outputs.double().T + bias.double()
    expected = cross_entropy(logits, case.targets)
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_gradient_by_a_bias_is_not_rounded_to_half_precision(
    dtype: torch.dtype, backend: BackendName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "elements_at_once", lambda device: 300)  # parts of the items
    case = Case.random(12, 50, 16, dtype=dtype, scale=3.0)
    assert bias_error(case, backend=backend) <= SUMS_OF_WEIGHTS


def test_a_bias_in_half_precision_gets_a_gradient_in_its_dtype() -> None:
    case = Case.random(12, 50, 16, dtype=torch.bfloat16, scale=3.0)
    gradient = by_bias(case, random_bias(50).bfloat16())
    assert gradient.dtype == torch.bfloat16
    assert gradient.any()


def test_a_second_derivative_by_a_bias_is_refused() -> None:
    case = Case.random(3, 5, 4)
    queries, bias = case.queries.requires_grad_(), random_bias(5).double().requires_grad_()
    loss = mk.softmax_loss(queries, *case.args[1:3], bias=bias)
    by_each = torch.autograd.grad(loss, (queries, bias), create_graph=True)
    for gradient, each in itertools.product(by_each, (queries, bias)):
        if gradient is not by_each[0] or each is not queries:
            with pytest.raises(NotImplementedError, match="softmax loss by the"):
                torch.autograd.grad(gradient.sum(), each, retain_graph=True)


def test_a_head_over_frozen_features_trains() -> None:
    case = Case.random(4, 9, 5)
    outputs = case.outputs.clone().requires_grad_()
    mk.softmax_loss(case.queries, outputs, *case.args[2:]).backward()
    torch.testing.assert_close(outputs.grad, ours(case)[2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_shards_of_the_outputs_have_their_own_rows(backend: BackendName) -> None:
    q, v, y, scale = Case.random(30, 100, 6, scale=3.0).args
    run = select_backend(q, backend, None)
    args = run.odds(q, v, y)[2], LogitWeights(scale)
    parts = [run.outputs_gradient(q, v[i : i + 35], y - i, *args) for i in range(0, 100, 35)]
    torch.testing.assert_close(torch.cat(parts), run.outputs_gradient(q, v, y, *args))


def test_the_same_bits_in_every_run_and_tile() -> None:
    case = Case.random(1500, 300, 8, dtype=torch.float32)
    assert torch.equal(ours(case)[2], ours(case)[2])
    q, v, y, scale = Case.random(1500, 300, 8).args
    args = q, v, y, TorchBackend().odds(q, v, y)[2], LogitWeights(scale)
    gradients = TorchBackend(17).outputs_gradient(*args), TorchBackend().outputs_gradient(*args)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", [-100, 11])
def test_a_target_that_is_no_item_spreads_the_nan_of_its_log_odds(target: int) -> None:
    """As on a GPU, whose targets are not read."""
    q, v, y, scale = Case.random(4, 11, 3, dtype=torch.float32).args
    y[2], run = target, TorchBackend()
    others, scale[2] = run.odds(q, v, torch.zeros_like(y))[2], torch.nan
    gradient = run.outputs_gradient(q, v, y, others, LogitWeights(scale))
    assert gradient.isnan().all()


def test_no_matrix_of_all_logits_is_made() -> None:
    case = Case.random(64, 2**17, 4, dtype=torch.float32)
    assert extra_bytes(lambda: ours(case), "cpu") < 4 * 64 * 2**17 / 3


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # these two are torch's own
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_graph_breaks() -> None:
    case = Case.random(4, 50, 6)

    @torch.compile(fullgraph=True)
    def loss(queries: Tensor, outputs: Tensor) -> Tensor:
        return mk.softmax_loss(queries, outputs, *case.args[2:])

    torch.testing.assert_close(gradients(case, loss), ours(case))


def test_the_hessian_by_the_queries_needs_no_second_derivative_by_the_outputs() -> None:
    case = Case.random(4, 11, 3)
    queries, outputs = (each.clone().requires_grad_() for each in (case.queries, case.outputs))
    loss = mk.softmax_loss(queries, outputs, *case.args[2:])
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    (product,) = torch.autograd.grad(gradient, queries, case.queries, retain_graph=True)
    expected = mk.softmax_hvp(case.queries, case.queries, *case.args[1:])
    torch.testing.assert_close(product, expected)
    with pytest.raises(NotImplementedError, match="not differentiable by the outputs"):
        gradient.square().sum().backward()


def test_the_gradient_by_outputs_is_differentiated_once() -> None:
    case = Case.random(4, 11, 3)
    outputs = case.outputs.clone().requires_grad_()
    loss = mk.softmax_loss(case.queries, outputs, *case.args[2:])
    (gradient,) = torch.autograd.grad(loss, outputs, create_graph=True)
    with pytest.raises(NotImplementedError, match="by the outputs is not differentiable"):
        gradient.sum().backward()


def test_torch_func_gives_it_too() -> None:
    case = Case.random(4, 11, 3)
    by_both = torch.func.grad(lambda both: mk.softmax_loss(both[0], both[1], *case.args[2:]))(
        (case.queries, case.outputs)
    )
    torch.testing.assert_close(by_both, ours(case)[1:])
