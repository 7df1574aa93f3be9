"""Losses of each query, and targets that mark a query as ignored."""

from collections.abc import Callable
from dataclasses import replace

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels import errors
from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.softmax.checks import Reduction
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.kernels.softmax_cases import Case

BACKENDS: list[BackendName] = ["reference", "torch"]
IGNORED = torch.tensor([False, True, False, False, True, False])


@pytest.fixture(params=[-100, 255, 3])
def case(request: pytest.FixtureRequest) -> tuple[Case, int]:
    """Targets of which two are marked, by what may also be the number of an item."""
    case = Case.random(6, 11, 4)
    targets = (case.targets % 3).masked_fill(IGNORED, request.param)
    return replace(case, targets=targets), request.param


def gradients(loss: Callable[[Tensor, Tensor], Tensor], case: Case) -> tuple[Tensor, ...]:
    queries, outputs = (each.clone().requires_grad_() for each in (case.queries, case.outputs))
    losses = loss(queries, outputs)
    factors = torch.arange(1, losses.numel() + 1).view(losses.shape)
    return losses.detach(), *torch.autograd.grad((losses * factors).sum(), (queries, outputs))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("peers", ["mean", "none"])
def test_is_torchs_cross_entropy(case: tuple[Case, int], peers: str, backend: BackendName) -> None:
    given, index = case
    reduction: Reduction = "none" if peers == "none" else "weighted"
    ours = gradients(
        lambda q, v: mk.softmax_loss(
            q, v, given.targets, reduction=reduction, ignore_index=index, backend=backend
        ),
        given,
    )
    theirs = gradients(
        lambda q, v: cross_entropy(q @ v.T, given.targets, ignore_index=index, reduction=peers),
        given,
    )
    torch.testing.assert_close(ours, theirs)
    assert not ours[1][IGNORED].any()


def test_losses_are_those_of_retrieval_and_twice_differentiable() -> None:
    case = Case.random(5, 11, 3)
    losses = mk.softmax_loss(*case.args[:3], reduction="none")
    torch.testing.assert_close(losses, mk.retrieval(*case.args[:3]).loss)
    queries = case.queries.requires_grad_()

    def loss(queries: Tensor) -> Tensor:
        return mk.softmax_loss(queries, case.outputs, case.targets, reduction="none")

    assert torch.autograd.gradcheck(loss, queries)
    assert torch.autograd.gradgradcheck(loss, queries)


def test_what_ignored_queries_hold_does_not_matter() -> None:
    case = Case.random(6, 11, 4, dtype=torch.float32)
    targets = case.targets.masked_fill(IGNORED, -100)
    spoiled = case.queries.masked_fill(IGNORED[:, None], torch.nan)

    def results(queries: Tensor) -> tuple[Tensor, ...]:
        return gradients(
            lambda q, v: mk.softmax_loss(q, v, targets, ignore_index=-100),
            replace(case, queries=queries),
        )

    assert all(map(torch.equal, results(spoiled), results(case.queries)))
    kept = replace(case, queries=case.queries[~IGNORED], targets=case.targets[~IGNORED])
    torch.testing.assert_close(results(spoiled)[0], mk.softmax_loss(*kept.args[:3]))
    with pytest.raises(errors.NonFiniteError):
        mk.softmax_loss(spoiled, *case.args[1:])


def test_weights_of_ignored_queries_count_nothing() -> None:
    case = Case.random(6, 11, 4)
    targets = case.targets.masked_fill(IGNORED, -100)
    loss = mk.softmax_loss(case.queries, case.outputs, targets, case.weights, ignore_index=-100)
    zeroed = case.weights.masked_fill(IGNORED, 0)
    torch.testing.assert_close(loss, mk.softmax_loss(*case.args[:3], zeroed))


@pytest.mark.parametrize("spoiled", [torch.inf, torch.nan])
def test_what_weights_of_ignored_queries_hold_does_not_matter(spoiled: float) -> None:
    case = Case.random(6, 11, 4)
    targets = case.targets.masked_fill(IGNORED, -100)

    def results(fill: float) -> tuple[Tensor, ...]:
        weights = case.weights.masked_fill(IGNORED, fill).requires_grad_()
        loss = mk.softmax_loss(case.queries, case.outputs, targets, weights, ignore_index=-100)
        return loss.detach(), *torch.autograd.grad(loss, weights)

    assert all(map(torch.equal, results(spoiled), results(0)))
    with pytest.raises(errors.NonFiniteError, match="weights"):
        mk.softmax_loss(*case.args[:3], case.weights.masked_fill(IGNORED, spoiled))


def test_all_ignored_is_zero_and_an_unused_index_changes_no_bit() -> None:
    case = Case.random(6, 11, 4)
    none = mk.softmax_loss(case.queries, case.outputs, torch.full((6,), -100), ignore_index=-100)
    assert none == 0
    for args in (case.args, case.args[:3]):
        assert torch.equal(mk.softmax_loss(*args, ignore_index=-100), mk.softmax_loss(*args))


def test_narrow_targets_may_be_marked_by_what_their_dtype_cannot_hold() -> None:
    case = Case.random(6, 11, 4)
    targets = case.targets.to(torch.uint8)
    loss = mk.softmax_loss(case.queries, case.outputs, targets, ignore_index=-100)
    torch.testing.assert_close(loss, mk.softmax_loss(*case.args[:3]))


def test_wrong_reductions_are_refused() -> None:
    case = Case.random(6, 11, 4)
    with pytest.raises(errors.InputError, match="expected 'weighted'"):
        mk.softmax_loss(*case.args, reduction="mean")  # type: ignore[arg-type]
    with pytest.raises(errors.InputError, match="multiply the losses"):
        mk.softmax_loss(*case.args, reduction="none")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # these two are torch's own
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_graph_breaks() -> None:
    case = Case.random(6, 50, 4)
    targets = case.targets.masked_fill(IGNORED, -100)

    def loss(queries: Tensor, outputs: Tensor) -> Tensor:
        return mk.softmax_loss(queries, outputs, targets, ignore_index=-100)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, case), gradients(loss, case))
