"""The softmax family against its definition, on every backend that runs on a CPU."""

from dataclasses import replace

import memsolve_kernels as mk
import mpmath  # type: ignore[import-untyped]
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.torch_backend import TorchBackend

from bench.measure import extra_bytes
from tests.kernels.softmax_cases import (
    Case,
    autograd,
    by_parts,
    exact_rows,
    relative_error,
    run_all,
)

BACKENDS: list[BackendName] = ["reference", "torch"]
SIZES = [(5, 37, 7), (1, 1, 1), (3, 1, 4), (1, 300, 1), (7, 2, 3), (1100, 5, 2), (4, 1300, 6)]
fast = settings(max_examples=25, deadline=None)
cases = st.builds(
    Case.random,
    batch=st.integers(1, 6),
    items=st.integers(1, 40),
    dim=st.integers(1, 9),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 10**6),
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_equals_autograd_through_all_logits(
    backend: BackendName, size: tuple[int, int, int]
) -> None:
    case = Case.random(*size, scale=3.0)
    directions = case.queries.flip(0)
    loss, gradient, product = autograd(case, directions)
    ours = mk.softmax_gradient(*case.args, backend=backend)
    torch.testing.assert_close(ours, (loss, gradient))
    torch.testing.assert_close(mk.softmax_loss(*case.args, backend=backend), loss)
    ours_product = mk.softmax_hvp(case.queries, directions, *case.args[1:], backend=backend)
    torch.testing.assert_close(ours_product, product)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_retrieval_follows_its_definition(backend: BackendName, size: tuple[int, int, int]) -> None:
    case = Case.random(*size, scale=3.0)
    logits = case.queries @ case.outputs.T
    rows = torch.arange(len(logits))
    own = logits[rows, case.targets]
    others = logits.clone()
    others[rows, case.targets] = -torch.inf
    ours = mk.retrieval(*case.args[:3], backend=backend)
    torch.testing.assert_close(ours.log_partition, logits.logsumexp(1))
    torch.testing.assert_close(ours.target_logit, own)
    torch.testing.assert_close(ours.margin, own - others.amax(1))
    torch.testing.assert_close(ours.loss, logits.logsumexp(1) - own)
    assert torch.equal(ours.rank, (others > own[:, None]).sum(1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("margin", [15.0, 70.0, 300.0, -300.0])
def test_keeps_relative_accuracy_at_extreme_margins(backend: BackendName, margin: float) -> None:
    case = Case.random(3, 9, 4).at_margin(margin)
    losses, gradients = exact_rows(case, digits=200)
    statistics = mk.retrieval(*case.args[:3], backend=backend)
    for row, (loss, gradient) in enumerate(zip(losses, gradients, strict=True)):
        weights = torch.zeros(3, dtype=torch.float64)
        weights[row] = 1
        ours, ours_gradient = mk.softmax_gradient(*case.args[:3], weights, backend=backend)
        assert abs(float(ours) / loss - 1) < 1e-12
        assert abs(float(statistics.loss[row]) / loss - 1) < 1e-12
        error = mpmath.norm(mpmath.matrix(ours_gradient[row].tolist()) - mpmath.matrix(gradient))
        assert error / mpmath.norm(mpmath.matrix(gradient)) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_of_ten_thousand_do_not_overflow(
    backend: BackendName, sign: int, dtype: torch.dtype
) -> None:
    outputs = torch.tensor([[1.0], [0.5], [-1.0]], dtype=dtype)
    queries = torch.tensor([[sign * 1e4]], dtype=dtype)
    targets = torch.tensor([0])
    loss, gradient = mk.softmax_gradient(queries, outputs, targets, backend=backend)
    statistics = mk.retrieval(queries, outputs, targets, backend=backend)
    directions = torch.ones_like(queries)
    assert loss == (0 if sign == 1 else 2e4)
    assert gradient == (0 if sign == 1 else -2)
    assert statistics.margin == (5e3 if sign == 1 else -2e4)
    assert statistics.rank == (0 if sign == 1 else 2)
    assert mk.softmax_hvp(queries, directions, outputs, targets, backend=backend) == 0


@pytest.mark.parametrize("margin", [3.0, 25.0])
@pytest.mark.parametrize("dim", [8, 64])
def test_float32_errs_no_more_than_twice_torch(margin: float, dim: int) -> None:
    exact = Case.random(64, 2000, dim, dtype=torch.float32).at_margin(margin).to(torch.float64)
    case = exact.to(torch.float32)
    directions = Case.random(64, 1, dim, dtype=torch.float32, seed=1).queries
    truth_loss, truth_gradient = mk.softmax_gradient(*exact.args, backend="reference")
    truth_product = mk.softmax_hvp(
        exact.queries, directions.double(), *exact.args[1:], backend="reference"
    )
    loss, gradient = mk.softmax_gradient(*case.args)
    product = mk.softmax_hvp(case.queries, directions, *case.args[1:])
    torch_loss, torch_gradient, torch_product = autograd(case, directions)
    assert torch_product is not None
    rounding = torch.finfo(torch.float32).eps
    for ours, peer, truth in (
        (loss, torch_loss, truth_loss),
        (gradient, torch_gradient, truth_gradient),
        (product, torch_product, truth_product),
    ):
        assert relative_error(ours, truth) <= max(2 * relative_error(peer, truth), rounding)


EXTREMES = {
    "huge outputs": ([[6.4e-10]], [[2e10], [1e11], [1e10]]),
    "tiny outputs": ([[0.0, -64.0]], [[3e-18, 1.0], [1e-18, 1.0], [-2e-18, 1.0], [1e-18, 0.99]]),
    "the largest outputs": ([[1e-38]], [[3e38], [3e38], [-3e38], [2e38]]),
    "the largest queries": ([[3e38, 3e38]], [[1e-38, 0.0], [2e-38, 0.0], [0.0, 1e-38]]),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_inputs_keep_their_gradient(name: str) -> None:
    queries, outputs = map(torch.tensor, EXTREMES[name])
    case = Case(queries, outputs, torch.tensor([0]), torch.ones(1))
    truth_loss, truth = mk.softmax_gradient(*case.to(torch.float64).args, backend="reference")
    loss, gradient = mk.softmax_gradient(*case.args, backend="torch")
    torch_loss, torch_gradient, _ = autograd(case)
    rounding = 64 * torch.finfo(torch.float32).eps  # of logits up to 64, so of their exponentials
    for ours, peer, exact in ((loss, torch_loss, truth_loss), (gradient, torch_gradient, truth)):
        for column, value in enumerate(ours.reshape(-1)):
            error, peers = (
                relative_error(each.reshape(-1)[column], exact.reshape(-1)[column])
                for each in (value.expand_as(ours), peer)
            )
            assert error <= max(2 * peers, rounding)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    half = Case.random(8, 500, 16, dtype=dtype).at_margin(25.0)
    case = half.to(torch.float32)
    directions = Case.random(8, 1, 16, dtype=dtype, seed=1).queries
    ours = mk.softmax_gradient(*half.args)
    assert ours[1].dtype == torch.float32
    torch.testing.assert_close(ours, mk.softmax_gradient(*case.args), rtol=0, atol=0)
    assert torch.equal(
        mk.softmax_hvp(half.queries, directions, *half.args[1:]),
        mk.softmax_hvp(case.queries, directions.float(), *case.args[1:]),
    )
    assert mk.retrieval(*half.args[:3]).loss.dtype == torch.float32


@fast
@given(case=cases, seed=st.integers(0, 100))
def test_a_shift_of_all_outputs_changes_no_loss(case: Case, seed: int) -> None:
    shift = torch.randn(
        case.outputs.shape[1],
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    shifted = replace(case, outputs=case.outputs + shift)
    torch.testing.assert_close(
        mk.softmax_gradient(*shifted.args), mk.softmax_gradient(*case.args), rtol=1e-9, atol=1e-10
    )
    torch.testing.assert_close(
        mk.softmax_hvp(case.queries, case.queries, *shifted.args[1:]),
        mk.softmax_hvp(case.queries, case.queries, *case.args[1:]),
        rtol=1e-9,
        atol=1e-10,
    )


@fast
@given(case=cases, seed=st.integers(0, 100))
def test_items_have_no_order(case: Case, seed: int) -> None:
    order = torch.randperm(len(case.outputs), generator=torch.Generator().manual_seed(seed))
    permuted = replace(case, outputs=case.outputs[order], targets=order.argsort()[case.targets])
    torch.testing.assert_close(
        mk.softmax_gradient(*permuted.args), mk.softmax_gradient(*case.args), rtol=1e-9, atol=1e-10
    )
    torch.testing.assert_close(
        mk.retrieval(*permuted.args[:3]), mk.retrieval(*case.args[:3]), rtol=1e-9, atol=1e-10
    )


@fast
@given(case=cases)
def test_equal_logits_leave_rank_zero_and_loss_log_n(case: Case) -> None:
    n = len(case.outputs)
    same = replace(case, queries=torch.zeros_like(case.queries))
    statistics = mk.retrieval(*same.args[:3])
    assert torch.all(statistics.rank == 0)
    assert torch.all(statistics.margin == (0 if n > 1 else torch.inf))
    torch.testing.assert_close(
        statistics.loss, torch.full_like(statistics.loss, n).log(), rtol=1e-12, atol=0
    )


@fast
@given(case=cases, copies=st.integers(2, 4))
def test_a_repeated_query_counts_as_its_weight(case: Case, copies: int) -> None:
    repeated = Case(
        case.queries.repeat(copies, 1),
        case.outputs,
        case.targets.repeat(copies),
        case.weights.repeat(copies),
    )
    loss, gradient = mk.softmax_gradient(*case.args)
    more_loss, more_gradient = mk.softmax_gradient(*repeated.args)
    torch.testing.assert_close(more_loss, copies * loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(more_gradient, gradient.repeat(copies, 1), rtol=1e-9, atol=1e-12)


@fast
@given(case=cases)
def test_hessian_is_symmetric_and_positive(case: Case) -> None:
    batch, dim = case.queries.shape
    a, b = (Case.random(batch, 1, dim, seed=seed).queries for seed in (1, 2))
    along_a = mk.softmax_hvp(case.queries, a, *case.args[1:])
    along_b = mk.softmax_hvp(case.queries, b, *case.args[1:])
    torch.testing.assert_close((b * along_a).sum(), (a * along_b).sum(), rtol=1e-8, atol=1e-10)
    assert (a * along_a).sum() >= -1e-12 * (a * a).sum()


@fast
@given(case=cases, items=st.integers(1, 45))
def test_size_of_a_tile_changes_rounding_only(case: Case, items: int) -> None:
    torch.testing.assert_close(
        run_all(TorchBackend(items), case), run_all(TorchBackend(), case), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("backend", BACKENDS)
@fast
@given(case=cases, cuts=st.lists(st.integers(0, 40), max_size=5))
def test_parts_of_the_items_merge_to_the_whole(
    backend: BackendName, case: Case, cuts: list[int]
) -> None:
    run = select_backend(case.queries, backend, None)
    merged = by_parts(run, case, cuts)
    torch.testing.assert_close(merged, run_all(run, case), rtol=1e-9, atol=1e-10)
    truth = run_all(select_backend(case.queries, "reference", None), case)
    torch.testing.assert_close(merged, truth, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_part_that_holds_the_target_alone_decides_nothing(backend: BackendName) -> None:
    outputs = torch.tensor([[0.0], [-1.0], [-0.5]], dtype=torch.float64)
    weights = torch.ones(1, dtype=torch.float64)
    case = Case(
        torch.full((1, 1), 4000.0, dtype=torch.float64), outputs, torch.tensor([0]), weights
    )
    run = select_backend(case.queries, backend, None)
    assert run_all(run, case)[0] == -2000
    torch.testing.assert_close(by_parts(run, case, [1]), run_all(run, case))


def test_duplicates_of_the_target_tie_with_it() -> None:
    outputs = torch.randint(-3, 4, (6, 5), generator=torch.Generator().manual_seed(0)).float()
    outputs = outputs.repeat(50, 1)
    statistics = mk.retrieval(outputs[:6] * 4, outputs, torch.arange(6))
    assert torch.all(statistics.margin <= 0)
    assert torch.all(statistics.rank % 50 == 0)


@pytest.mark.parametrize("size", [(6, 3, 5), (3, 300, 1), (40, 150, 33), (300, 700, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bit_identical_copies_tie(dtype: torch.dtype, size: tuple[int, int, int]) -> None:
    case = Case.random(*size, dtype=dtype, scale=5.0)
    copied = replace(case, outputs=case.outputs.repeat(3, 1))
    alone, ours = (mk.retrieval(*each.args[:3], backend="torch") for each in (case, copied))
    assert torch.all(ours.margin <= 0)
    assert torch.equal(ours.margin == 0, alone.rank == 0)
    assert torch.all(ours.rank % 3 == 0)


def test_signs_tell_their_copies_from_the_many_of_equal_sum() -> None:
    outputs = Case.random(9, 500, 64, dtype=torch.float64).outputs.sign()
    alone = mk.retrieval(outputs[:9] * 0.1, outputs, torch.arange(9), backend="torch")
    assert not torch.any(alone.margin == 0)
    ours = mk.retrieval(outputs[:9] * 0.1, outputs.repeat(2, 1), torch.arange(9), backend="torch")
    assert torch.all(ours.margin == 0)


def test_copies_made_by_a_later_write_tie() -> None:
    outputs = Case.random(9, 70, 33, dtype=torch.float32).outputs
    targets = torch.arange(9)
    before = mk.retrieval(outputs[:9] + 1, outputs, targets, backend="torch")
    outputs[60:69] = outputs[:9]
    after = mk.retrieval(outputs[:9] + 1, outputs, targets, backend="torch")
    assert not torch.any(before.margin == 0)
    assert torch.equal(after.margin == 0, before.rank == 0)


def test_as_many_copies_as_items_tie() -> None:
    outputs = Case.random(9, 1, 64, dtype=torch.float32).outputs.expand(40_000, 64)
    ours = mk.retrieval(outputs[:9] + 1, outputs, torch.arange(9), backend="torch")
    assert torch.all(ours.margin == 0)
    assert torch.all(ours.rank == 0)


def test_weights_default_to_the_mean() -> None:
    case = Case.random(4, 9, 3)
    mean = torch.full((4,), 0.25, dtype=torch.float64)
    assert torch.equal(mk.softmax_loss(*case.args[:3]), mk.softmax_loss(*case.args[:3], mean))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_queries_give_nothing(backend: BackendName) -> None:
    queries, outputs, targets = torch.empty(0, 3), torch.ones(2, 3), torch.empty(0).long()
    loss, gradient = mk.softmax_gradient(queries, outputs, targets, backend=backend)
    assert loss == 0
    assert gradient.shape == (0, 3)
    assert mk.softmax_hvp(queries, queries, outputs, targets, backend=backend).shape == (0, 3)
    assert all(len(column) == 0 for column in mk.retrieval(queries, outputs, targets))


def test_strided_inputs_and_narrow_targets_work() -> None:
    case = Case.random(6, 50, 8)
    strided = Case(
        case.queries.T.contiguous().T,
        torch.stack([case.outputs, case.outputs], dim=-1)[..., 0],
        case.targets.to(torch.uint8),
        case.weights.repeat_interleave(2)[::2],
    )
    assert not strided.queries.is_contiguous()
    assert not strided.outputs.is_contiguous()
    torch.testing.assert_close(mk.softmax_gradient(*strided.args), mk.softmax_gradient(*case.args))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
def test_narrow_targets_may_be_of_more_items_than_they_count(dtype: torch.dtype) -> None:
    case = Case.random(6, 2 * torch.iinfo(dtype).max + 4, 2)
    targets = case.targets % 100
    expected = mk.softmax_gradient(case.queries, case.outputs, targets)
    narrow = case.queries, case.outputs, targets.to(dtype)
    torch.testing.assert_close(mk.softmax_gradient(*narrow), expected, rtol=0, atol=0)
    torch.testing.assert_close(mk.softmax_loss(*narrow), expected[0])
    torch.testing.assert_close(mk.retrieval(*narrow).loss.mean(), expected[0])
    mk.softmax_hvp(narrow[0], *narrow)  # does not raise


def test_inputs_are_left_alone() -> None:
    case = Case.random(4, 30, 5)
    before = [tensor.clone() for tensor in case.args]
    mk.softmax_gradient(*case.args)
    mk.softmax_hvp(case.queries, case.queries, *case.args[1:])
    mk.retrieval(*case.args[:3])
    assert all(torch.equal(was, now) for was, now in zip(before, case.args, strict=True))


def test_no_matrix_of_all_logits_is_made() -> None:
    case = Case.random(64, 2**17, 4, dtype=torch.float32)
    queries, outputs, targets = case.args[:3]
    all_logits = 4 * 64 * 2**17
    assert extra_bytes(lambda: queries @ outputs.T, "cpu") >= all_logits

    def ours() -> None:
        mk.retrieval(queries, outputs, targets)
        mk.softmax_gradient(queries, outputs, targets)
        mk.softmax_hvp(queries, queries, outputs, targets)

    assert extra_bytes(ours, "cpu") < all_logits / 3
