"""The Triton kernels against the definition: on a GPU, or on a CPU in Triton's interpreter.

Without a GPU this file runs in a process of its own, which test_interpreted.py starts: the
interpreter is chosen before the kernels are defined. `tensor_cores` gives it a GPU's products and
bfloat16.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import memsolve_kernels as mk
import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from memsolve_kernels import architectures, dispatch
from memsolve_kernels.dispatch import Precision
from memsolve_kernels.errors import BackendError
from memsolve_kernels.launch import Launch, record_launches
from memsolve_kernels.softmax import ops
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.partials import LogitWeights
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.kernels.softmax_bounds import DEVICE, PASSES, check, check_retrieval, check_statistics
from tests.kernels.softmax_cases import Case, by_parts, ours, relative_error, run_all
from tests.kernels.softmax_full import SUMS_OF_WEIGHTS, bias_error, by_bias, random_bias
from tests.kernels.softmax_ranks import equal, everything, shard_of, to_numpy
from tests.ranks import run_ranks

GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or Triton's interpreter", allow_module_level=True)

from memsolve_kernels.softmax import plan, triton_backend  # noqa: E402
from memsolve_kernels.softmax.triton_kernels import scratch  # noqa: E402
from memsolve_kernels.softmax.variants import variants  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning"),  # log2(0) is -inf, meant
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),  # Triton 3.6's
]
HALVES = [torch.float16, torch.bfloat16]
SIZES = [
    (5, 37, 7),
    (1, 1, 1),
    (3, 1, 4),
    (70, 150, 64),
    (20, 100, 80),
    (3, 40, 200),
    (9, 70, 300),
]
LARGE = (9, 70, 530)  # beyond what any preset keeps on chip
FOUR_PASSES = ("gradient", "hvp", "outputs", "rank")
PRECISIONS: list[Precision] = ["ieee", "tf32x3", "tf32"] if GPU else ["ieee"]


@pytest.fixture(autouse=True)
def interpreter_computes_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not GPU:
        from tests.kernels import tensor_cores  # needs ml-dtypes, which a GPU's machine may lack

        tensor_cores.install(monkeypatch)


@pytest.fixture(autouse=True)
def uninitialized_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [*((size, torch.float16) for size in (*SIZES, LARGE)), (SIZES[1], torch.bfloat16)],
)
def test_half_precision(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    """In bfloat16, `test_bfloat16_in_every_preset` has the other sizes."""
    check(Case.random(*size, dtype=dtype, scale=3.0), passes=FOUR_PASSES)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_float32(size: tuple[int, int, int], precision: Precision) -> None:
    check(Case.random(*size, dtype=torch.float32, scale=3.0), precision, FOUR_PASSES)


@pytest.mark.parametrize("precision", ["tf32x3", "tf32"])
def test_tensor_core_precisions_of_float32(precision: Precision) -> None:
    check(Case.random(70, 100, 40, dtype=torch.float32, scale=3.0), precision, FOUR_PASSES)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("size", [SIZES[0], SIZES[1], SIZES[3], LARGE])
def test_losses_and_statistics(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    """By every option, with the gradients of entropies in one pass or by a scratch."""
    check_statistics(Case.random(*size, dtype=dtype, scale=3.0))


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("size", [SIZES[0], SIZES[3], LARGE])
@pytest.mark.parametrize("sms", [1, 5])
def test_the_gradient_by_a_bias_is_a_sum_in_float32(
    size: tuple[int, int, int], dtype: torch.dtype, sms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one pass or by a scratch, from one split of the queries or several."""
    monkeypatch.setattr(plan, "count_sms", lambda _: sms)
    case = Case.random(*size, dtype=dtype, scale=3.0).on(DEVICE)
    assert bias_error(case, backend="triton") <= SUMS_OF_WEIGHTS


def test_statistics_of_wide_logits_in_half_precision() -> None:
    """Weights in float16 are bounded by the share times its logarithm, not by the logits."""
    check_statistics(Case.random(9, 60, 40, dtype=torch.float16, scale=60.0))


# Architecture, queries and dimensions, and the passes that take a tile which no call above takes.
CALLS = {
    **{(80, 9, dim): PASSES for dim in (33, 65, 129)},
    (80, 9, 257): ("gradient", "second derivative", "outputs", "rank"),
    **{(80, 17, dim): ("gradient", "hvp", "second derivative", "rank") for dim in (33, 65)},
    (86, 17, 129): ("gradient", "second derivative", "rank"),
    **{(90, 17, dim): ("hvp", "rank") for dim in (33, 65)},
    (90, 17, 129): ("rank",),
    (90, 17, 257): ("gradient", "second derivative", "rank"),
    (100, 9, 513): ("gradient", "outputs"),
    (100, 17, 33): ("second derivative", "outputs", "rank"),
    (100, 17, 65): ("outputs", "rank"),
    (100, 17, 129): ("hvp", "second derivative", "rank"),
    **{(100, 97, dim): ("gradient", "hvp", "second derivative") for dim in (33, 65)},
    (120, 17, 257): ("gradient", "second derivative", "rank"),
}


def in_the_presets_of(arch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "INTERPRETED", architectures.COMPILED[arch])


@pytest.mark.skipif(GPU, reason="it takes its own presets")
@pytest.mark.parametrize(
    ("arch", "batch", "dim", "name"), [(*call, name) for call in CALLS for name in CALLS[call]]
)
def test_bfloat16_in_every_preset(
    arch: int, batch: int, dim: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_presets_of(arch, monkeypatch)
    check(Case.random(batch, 66, dim, dtype=torch.bfloat16, scale=3.0), passes=[name])


def tile(launch: Launch) -> tuple[object, ...]:
    """The kernel, and what the interpreter sees of its preset."""
    sizes = (launch.arguments.get(size) for size in ("BLOCK_B", "BLOCK_N", "BLOCK_D", "LANES"))
    return launch.kernel.__name__, *sizes


def tiles(case: Case, passes: tuple[str, ...]) -> set[tuple[object, ...]]:
    """Of the kernels that the passes launch, without running them."""
    q, v, y, weights = case.args
    run = select_backend(q, "triton", None)
    with record_launches():
        log_odds, difference, others = run.odds(q, v, y)
    with record_launches() as launches:
        if {"gradient", "second derivative", "outputs"} & set(passes):
            run.odds(q, v, y)
        if "hvp" in passes:
            run.curvature(q, q, v, y)
        if "second derivative" in passes:
            run.covariance(q, q, v, y, log_odds, difference)
        if "outputs" in passes:
            run.outputs_gradient(q, v, y, others, LogitWeights(weights))
        if "rank" in passes:
            run.ranks(q, v, y)
    return {tile(launch) for launch in launches}


@pytest.mark.skipif(GPU, reason="it takes its own presets")
def test_calls_take_every_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = set()
    for (arch, batch, dim), passes in CALLS.items():
        in_the_presets_of(arch, monkeypatch)
        taken |= tiles(Case.random(batch, 66, dim, dtype=torch.bfloat16), passes)
    for arch in {row.preset_arch for row in architectures.COMPILED.values()}:
        launches = (variant.launch for variant in variants(arch))
        halves = {tile(one) for one in launches if one.arguments["outputs"].dtype == torch.bfloat16}
        assert halves <= taken, arch


@pytest.mark.parametrize(
    ("items", "dim", "dtype"),
    [
        *itertools.product([300], [64], HALVES),
        (260, 260, torch.bfloat16),
        (130, 20, torch.float32),
    ],
)
def test_splits_and_chunks_merge(
    items: int, dim: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 17 if dim > 256 else 4  # more than FEW, for which a sum of 260 columns is kept on chip
    case = Case.random(rows + 2, items, dim, dtype=dtype, scale=3.0).on(DEVICE)
    unsplit = mk.softmax_gradient(*case.args, backend="triton")
    product = mk.softmax_hvp(case.queries, case.queries, *case.args[1:], backend="triton")
    few = replace(case, outputs=case.outputs[:37], targets=case.targets % 37)
    by_outputs = ours(few, "triton")[2]
    monkeypatch.setattr(plan, "count_sms", lambda _: 5)
    monkeypatch.setattr(triton_backend, "ROWS_IN_SCRATCH", rows)
    monkeypatch.setattr(scratch, "SCRATCH_BYTES", 4 * items * dtype.itemsize)
    close = 20 * torch.finfo(dtype).eps
    split = mk.softmax_gradient(*case.args, backend="triton")
    torch.testing.assert_close(split, unsplit, rtol=close, atol=close)
    torch.testing.assert_close(
        mk.softmax_hvp(case.queries, case.queries, *case.args[1:], backend="triton"),
        product,
        rtol=close,
        atol=close,
    )
    torch.testing.assert_close(ours(few, "triton")[2], by_outputs, rtol=close, atol=close)
    check_retrieval(case, case.on("cpu").to(torch.float64))


@pytest.mark.parametrize(
    ("dim", "dtype"),
    [*itertools.product([16], HALVES), (260, torch.bfloat16), (20, torch.float32)],
)
@settings(max_examples=2, deadline=None)
@given(
    batch=st.integers(1, 9),
    items=st.integers(1, 70),
    cuts=st.lists(st.integers(0, 70), min_size=1, max_size=2),
    seed=st.integers(0, 10**6),
)
def test_parts_of_the_items_merge_to_the_whole(
    dim: int, dtype: torch.dtype, batch: int, items: int, cuts: list[int], seed: int
) -> None:
    more = 16 if dim > 256 else 0  # queries: FEW would keep a sum of 260 columns on chip
    case = Case.random(batch + more, items, dim, dtype=dtype, scale=3.0, seed=seed)
    exact, case = case.to(torch.float64), case.on(DEVICE)
    run = select_backend(case.queries, "triton", None)
    merged, close = by_parts(run, case, cuts), 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(merged, run_all(run, case), rtol=close, atol=close)
    truth = run_all(select_backend(exact.queries, "reference", None), exact)
    for value, true in zip(merged, truth, strict=True):
        torch.testing.assert_close(value.cpu().to(true.dtype), true, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_rounded_weights_are_those_to_the_nearest(dtype: torch.dtype) -> None:
    case = Case.random(16, 300, 64, dtype=dtype, scale=0.5).on(DEVICE)
    partial = select_backend(case.queries, "triton", None).partial_odds(*case.args[:3])
    rounding = partial.norm.double() / partial.total.double() - 1
    assert rounding.any()
    assert rounding.mean().abs() <= torch.finfo(dtype).eps / 16  # cut, they lose eps / 3


@pytest.mark.parametrize(("dim", "dtype"), [*itertools.product([64], HALVES), (530, torch.float16)])
def test_recovered_items_keep_their_gradient(dim: int, dtype: torch.dtype) -> None:
    case = Case.random(16, 300, dim, dtype=torch.float32).at_margin(25.0).to(dtype)
    exact = case.to(torch.float64)
    each = torch.ones_like(case.weights)
    _, truth = mk.softmax_gradient(*exact.args[:3], each.double(), backend="reference")
    case = case.on(DEVICE)
    _, gradient = mk.softmax_gradient(*case.args[:3], each.to(DEVICE), backend="triton")
    rows = zip(gradient.cpu(), truth, strict=True)
    assert max(relative_error(row, true) for row, true in rows) <= 1e-3
    loss = mk.retrieval(*case.args[:3], backend="triton").loss.cpu().double()
    losses = mk.retrieval(*exact.args[:3], backend="reference").loss
    assert float((loss / losses - 1).abs().max()) <= 1e-5


@pytest.mark.parametrize("dtype", HALVES)
def test_small_directions_do_not_underflow_in_half_precision(dtype: torch.dtype) -> None:
    case = Case.random(4, 60, 8, dtype=dtype).on(DEVICE)
    queries = case.queries.requires_grad_()
    loss = mk.softmax_loss(queries, *case.args[1:3], case.weights.float(), backend="triton")
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    (small,) = torch.autograd.grad(2.0**-20 * gradient.float().sum(), queries)
    direct = mk.softmax_hvp(
        queries, torch.ones_like(queries), *case.args[1:3], case.weights.float(), backend="triton"
    )
    torch.testing.assert_close(small.float(), 2.0**-20 * direct, rtol=0.1, atol=2.0**-24)
    assert small.abs().max() > 0


@pytest.mark.parametrize(("dim", "dtype"), [*itertools.product([8], HALVES), (530, torch.float16)])
def test_small_weights_do_not_underflow_in_the_gradient_by_outputs(
    dim: int, dtype: torch.dtype
) -> None:
    case = Case.random(4, 60, dim, dtype=dtype).on(DEVICE)
    run = select_backend(case.queries, "triton", None)
    args = *case.args[:3], run.odds(*case.args[:3])[2]
    weights = case.weights.float()
    small = run.outputs_gradient(*args, LogitWeights(2.0**-40 * weights))
    assert torch.equal(2.0**40 * small, run.outputs_gradient(*args, LogitWeights(weights)))


def test_large_outputs_do_not_overflow_the_product_in_half_precision() -> None:
    outputs = 4 * torch.randn(40, 600, generator=torch.Generator().manual_seed(0))
    queries = ((outputs[3] + outputs[7]) / outputs.square().sum(1).mean() * 6).half()[None]
    directions = (outputs[3] - outputs[7]).half()[None]
    targets = torch.tensor([0])
    exact = [tensor.double() for tensor in (queries, directions, outputs.half())]
    truth = mk.softmax_hvp(exact[0], exact[1], exact[2], targets, backend="reference")
    half = [tensor.to(DEVICE) for tensor in (queries, directions, outputs.half())]
    product = mk.softmax_hvp(half[0], half[1], half[2], targets.to(DEVICE), backend="triton")
    assert relative_error(product.cpu(), truth) <= 1e-3


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 5e-5), (torch.bfloat16, 4e-4)])
def test_outputs_with_a_common_part_keep_the_gradient_in_half_precision(
    dtype: torch.dtype, bound: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = (torch.randn(300, 64, generator=generator) / 8 + 10 / 8).to(dtype)
    queries = torch.randn(8, 64, generator=generator).to(dtype)
    targets = torch.randint(300, (8,), generator=generator)
    _, truth = mk.softmax_gradient(queries.double(), outputs.double(), targets, backend="reference")
    _, gradient = mk.softmax_gradient(
        queries.to(DEVICE), outputs.to(DEVICE), targets.to(DEVICE), backend="triton"
    )
    assert relative_error(gradient.cpu(), truth) <= bound


@pytest.mark.parametrize("dtype", HALVES)
def test_a_target_that_is_no_item_gives_nan_and_reads_nothing(dtype: torch.dtype) -> None:
    case = Case.random(5, 40, 8, dtype=dtype).on(DEVICE)
    targets = case.targets.clone()
    targets[1], targets[3] = -1, 2**40
    run = select_backend(case.queries, "triton", None)
    log_odds, difference, others = run.odds(case.queries, case.outputs, targets)
    *statistics, rank = run.ranks(case.queries, case.outputs, targets)
    product = run.covariance(
        case.queries, case.queries, case.outputs, targets, log_odds, difference
    )
    curvature = run.curvature(case.queries, case.queries, case.outputs, targets)[2]
    by_outputs = run.outputs_gradient(
        case.queries, case.outputs, targets, others, LogitWeights(log_odds.sigmoid())
    )
    wrong = torch.tensor([False, True, False, True, False], device=DEVICE)
    for rows in (log_odds, difference.sum(1), product.sum(1), curvature.sum(1), *statistics):
        assert torch.equal(rows.isnan(), wrong)
    assert torch.equal(rank == -1, wrong)
    assert by_outputs.isnan().all()


def test_nan_reaches_the_result() -> None:
    case = Case.random(5, 40, 8, dtype=torch.float32).on(DEVICE)
    outputs = case.outputs.clone()
    outputs[7, 3] = torch.nan
    run = select_backend(case.queries, "triton", None)
    targets = torch.zeros_like(case.targets)
    log_odds, difference, _ = run.odds(case.queries, outputs, targets)
    assert torch.all(log_odds.isnan())
    assert torch.all(difference[:, 3].isnan())
    *statistics, rank = run.ranks(case.queries, outputs, targets)
    assert all(torch.all(statistic.isnan()) for statistic in (statistics[0], statistics[2]))
    assert torch.all(rank == -1)


def test_strides_and_narrow_targets() -> None:
    case = Case.random(6, 50, 8, dtype=torch.float32).on(DEVICE)
    strided = Case(
        case.queries.T.contiguous().T,
        torch.stack([case.outputs, case.outputs], dim=-1)[..., 0],
        case.targets.to(torch.uint8).repeat_interleave(2)[::2],
        case.weights,
    )
    torch.testing.assert_close(
        mk.softmax_gradient(*strided.args, backend="triton"),
        mk.softmax_gradient(*case.args, backend="triton"),
    )
    assert torch.equal(
        mk.retrieval(*strided.args[:3], backend="triton").rank,
        mk.retrieval(*case.args[:3], backend="triton").rank,
    )


def test_no_queries() -> None:
    empty = Case.random(0, 4, 3, dtype=torch.float32).on(DEVICE)
    loss, gradient = mk.softmax_gradient(*empty.args, backend="triton")
    assert loss == 0
    assert gradient.shape == (0, 3)


def test_duplicates_of_the_target_tie_with_it() -> None:
    outputs = torch.randint(-3, 4, (6, 5), generator=torch.Generator().manual_seed(0)).float()
    outputs = outputs.repeat(50, 1).to(DEVICE)
    targets = torch.arange(6, device=DEVICE)
    statistics = mk.retrieval(outputs[:6] * 4, outputs, targets, backend="triton")
    assert torch.all(statistics.margin <= 0)
    assert torch.all(statistics.rank % 50 == 0)


def test_what_triton_cannot_honour_is_refused() -> None:
    case = Case.random(2, 4, 3).on(DEVICE)
    with pytest.raises(BackendError, match="no kernel"):
        mk.softmax_gradient(*case.args, backend="triton")
    with pytest.raises(BackendError, match="is for float32 inputs"):
        mk.softmax_gradient(*case.to(torch.float16).args, backend="triton", precision="tf32")


@pytest.mark.skipif(GPU, reason="it computes with bfloat16")
def test_bfloat16_is_refused_in_the_interpreter_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.kernels import tensor_cores

    monkeypatch.setattr(dispatch, "interpreter_lacks", tensor_cores.interpreter_lacks)
    case = Case.random(2, 4, 3, dtype=torch.bfloat16)
    with pytest.raises(BackendError, match="cannot run bfloat16 in Triton's interpreter"):
        mk.softmax_loss(*case.args, backend="triton")
    with pytest.raises(BackendError, match="cannot run bfloat16 in Triton's interpreter"):
        mk.matrix_sign(torch.eye(4), dtype=torch.bfloat16, backend="triton")
    assert mk.softmax_loss(*case.args).isfinite()
    with FakeTensorMode():
        on_gpu = torch.empty(2, device="cuda")
    select = partial(dispatch.select_backend_name, tensor=on_gpu, has_kernel=True)
    with pytest.raises(BackendError, match="cannot run bfloat16 in Triton's interpreter"):
        select("triton", dtype=torch.bfloat16)
    assert select(None, dtype=torch.bfloat16) == "torch"
    assert select(None, dtype=torch.float16) == "triton"


def test_operators_keep_the_rules_of_torch_library() -> None:
    """What depends on the backend; for the rest see test_softmax_torch.py."""
    torch.use_deterministic_algorithms(False)  # opcheck compares uninitialized outputs with itself
    check = partial(torch.library.opcheck, test_utils=("test_schema", "test_faketensor"))
    case = Case.random(2, 5, 3, dtype=torch.float32).on(DEVICE)
    q, v, y, _ = case.args
    *odds, others = ops.softmax_odds(q, v, y, "triton", None)
    check(ops.softmax_rank, (q, v, y, "triton", None))
    check(ops.softmax_curvature, (q, q, v, y, "triton", None))
    check(ops.softmax_covariance, (q, q, v, y, *odds, "triton", None))
    scale = odds[0].sigmoid()
    for column in (None, 1):
        check(ops.softmax_outputs, (q, v, y, others, scale, None, None, column, "triton", None))
        inputs = q, v, y, *odds, others, scale, scale, -scale
        check(ops.softmax_entropy_gradients, (*inputs, column, "triton", None))
    check(ops.softmax_odds, (q.requires_grad_(), v, y, "triton", None))


SHARDED = [(70, torch.float16), (40, torch.float32), (1, torch.float16)]


def on_two_ranks() -> list[dict[str, np.ndarray]]:
    """On one rank, of which each splits its items."""
    setattr(plan, "count_sms", lambda _: 5)  # noqa: B010 - of this process, which ends
    results = []
    for items, dtype in SHARDED:
        case = Case.random(3, items, 16, dtype=dtype, scale=3.0)
        shard = shard_of(case, (items // 3, items - items // 3))
        options: dict[str, Any] = {"group": dist.group.WORLD, "backend": "triton"}
        bias = random_bias(items).split((items // 3, items - items // 3))[dist.get_rank()]
        of_bias = {"by bias": by_bias(shard, bias, **options)}
        results.append(to_numpy(everything(shard, **options) | of_bias))
    return results


@pytest.mark.skipif(GPU, reason="the ranks interpret the kernels on a CPU")
def test_shards_on_ranks_merge_to_the_whole() -> None:
    for (items, dtype), *shards in zip(SHARDED, *run_ranks(on_two_ranks, 2), strict=True):
        by_outputs, of_bias = (
            np.concatenate([each.pop(f"by {name}") for each in shards])
            for name in ("outputs", "bias")
        )
        assert equal(*shards)
        case = Case.random(3, items, 16, dtype=dtype, scale=3.0).to(torch.float64)
        close = 20 * torch.finfo(dtype).eps
        for name, true in everything(case, backend="reference").items():
            value = torch.from_numpy(shards[0].get(name, by_outputs)).to(true.dtype)
            torch.testing.assert_close(value, true, rtol=close, atol=close)
        truth = by_bias(case, random_bias(items).double(), backend="reference")
        assert relative_error(torch.from_numpy(of_bias), truth) <= SUMS_OF_WEIGHTS
