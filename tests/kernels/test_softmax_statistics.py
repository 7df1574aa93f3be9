"""Statistics of the softmax under transforms and over ranks, and log-probabilities of items."""

from collections.abc import Callable
from typing import Any

import memsolve_kernels as mk
import numpy as np
import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import errors
from torch import Tensor
from torch.func import grad, hessian, jacrev, jvp, vmap
from torch.nn.functional import log_softmax
from torch.utils.checkpoint import checkpoint

from bench.measure import extra_bytes
from tests.kernels import softmax_full
from tests.kernels.softmax_cases import Case, relative_error
from tests.kernels.softmax_full import Options, every_option
from tests.kernels.softmax_ranks import case_of
from tests.ranks import run_ranks

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # torch's own
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
CASE, OPTIONS = Case.random(4, 11, 3), every_option(11)
Q, T, BOTH = CASE.queries, CASE.queries.flip(0), torch.stack([CASE.queries, -CASE.queries])
Function = Callable[[Tensor, Tensor], Tensor]


def ours(queries: Tensor, outputs: Tensor) -> Tensor:
    result = mk.softmax_statistics(queries, outputs, CASE.targets, **OPTIONS.arguments())
    return (result.loss - 0.3 * result.entropy + 0.1 * result.log_partition) @ CASE.weights


def peer(queries: Tensor, outputs: Tensor) -> Tensor:
    case = Case(queries, outputs, CASE.targets, CASE.weights)
    result = softmax_full.statistics(case, OPTIONS)
    total = result["loss"] - 0.3 * result["entropy"] + 0.1 * result["log_partition"]
    return total @ CASE.weights


def loss_by_queries(queries: Tensor) -> Tensor:
    return mk.softmax_loss(queries, *CASE.args[1:], **OPTIONS.arguments())


V = CASE.outputs
TRANSFORMS: dict[str, Callable[[Function], Any]] = {
    "grad": lambda f: grad(f, (0, 1))(Q, V),
    "jvp": lambda f: jvp(lambda q: f(q, V), (Q,), (T,)),
    "vmap": lambda f: vmap(lambda q: f(q, V))(BOTH),
    "vmap of grad": lambda f: vmap(grad(lambda q: f(q, V)))(BOTH),
    "vmap of outputs": lambda f: vmap(grad(lambda v: f(Q, v)))(torch.stack([V, -V])),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop.*:UserWarning")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str) -> None:
    transform = TRANSFORMS[name]
    torch.testing.assert_close(transform(ours), transform(peer))


def test_the_loss_has_a_hessian_and_the_entropy_has_none() -> None:
    def truth(queries: Tensor) -> Tensor:
        case = Case(queries, *CASE.args[1:])
        return softmax_full.statistics(case, OPTIONS)["loss"] @ CASE.weights

    torch.testing.assert_close(hessian(loss_by_queries)(Q), hessian(truth)(Q))
    twice: list[Callable[[Any], Any]] = [
        lambda f: jacrev(jacrev(f))(Q, V),
        lambda f: hessian(f)(Q, V),
    ]
    for transform in twice:
        with pytest.raises(NotImplementedError, match="entropy of the softmax is differentiable"):
            transform(ours)(Q, V)
    q, v = Q.clone().requires_grad_(), V.clone().requires_grad_()
    by_queries, by_outputs = torch.autograd.grad(ours(q, v), (q, v), create_graph=True)
    with pytest.raises(NotImplementedError, match="not differentiable by the outputs"):
        by_queries.sum().backward()
    with pytest.raises(NotImplementedError, match="by the outputs is not differentiable"):
        by_outputs.sum().backward()
    with pytest.raises(NotImplementedError, match="by the queries only, and the outputs"):
        jvp(lambda v: ours(Q, v), (V,), (V,))


def test_compiles_without_graph_breaks() -> None:
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, peer):
        q, v = Q.clone().requires_grad_(), V.clone().requires_grad_()
        value = function(q, v)
        results.append((value, *torch.autograd.grad(value, (q, v))))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("frozen", ["queries", "outputs", None])
def test_checkpoints_recompute_them(frozen: str | None) -> None:
    """Without reentry they unpack what backward needs once."""
    results = []
    for function in (ours, lambda *args: checkpoint(ours, *args, use_reentrant=False)):
        tracked = [Q.clone(), V.clone()]
        leaves = [
            t.requires_grad_()
            for t, name in zip(tracked, ("queries", "outputs"), strict=True)
            if name != frozen
        ]
        results.append(torch.autograd.grad(function(*tracked), leaves))
    torch.testing.assert_close(*results)


def test_compiles_options_that_change() -> None:
    """A compiler makes a symbol of a number that has changed."""

    def loss(z_loss: float, label_smoothing: float, temperature: float) -> Tensor:
        return mk.softmax_loss(
            Q,
            V,
            CASE.targets,
            z_loss=z_loss,
            label_smoothing=label_smoothing,
            temperature=temperature,
        )

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for options in ((0.1, 0.2, 1.5), (0.2, 0.3, 2.5)):
        torch.testing.assert_close(compiled(*options), loss(*options))


def test_a_bias_in_compiled_graphs_and_transforms() -> None:
    def loss(bias: Tensor) -> Tensor:
        return mk.softmax_loss(Q, V, CASE.targets, bias=bias, z_loss=0.02)

    bias = softmax_full.random_bias(len(V)).double()
    gradient = softmax_full.by_bias(CASE, bias, label_smoothing=0.0)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(grad(loss)(bias), gradient)
    tracked = bias.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(compiled(tracked), tracked)[0], gradient)
    several = torch.stack([bias, bias + 1, 2 * bias])
    mapped = vmap(grad(loss))(several)
    torch.testing.assert_close(mapped, torch.stack([grad(loss)(each) for each in several]))
    with pytest.raises(NotImplementedError, match="by the queries only, and the outputs"):
        jvp(loss, (bias,), (bias,))


def on_a_rank(sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Statistics of sharded outputs by every option, and their gradients."""
    case, options = case_of(sum(sizes), torch.float64), every_option(sum(sizes))
    rank = dist.get_rank()
    arguments = options.arguments()
    bias = arguments.pop("bias").split(sizes)[rank].requires_grad_()
    q, v = case.queries.requires_grad_(), case.outputs.split(sizes)[rank].requires_grad_()
    arguments |= {"bias": bias, "group": dist.group.WORLD}
    result = mk.softmax_statistics(q, v, case.targets, **arguments)
    total = (result.loss - 0.3 * result.entropy) @ case.weights
    gradients = torch.autograd.grad(total, (q, v, bias))
    loss = mk.softmax_loss(q, v, case.targets, **arguments)
    names = ("by queries", "by outputs", "by bias")
    values = result._asdict() | dict(zip(names, gradients, strict=True)) | {"mean": loss}
    return {name: each.detach().numpy() for name, each in values.items()}


@pytest.mark.parametrize("sizes", [(9, 3), (0, 12)])
def test_sharded_outputs_give_what_one_process_does(sizes: tuple[int, ...]) -> None:
    ranks = run_ranks(on_a_rank, 2, sizes)
    case, options = case_of(12, torch.float64), every_option(12)
    truth = softmax_full.Tracked.of(case, options)
    expected = softmax_full.statistics(truth.case, truth.options)
    expected["mean"] = softmax_full.mean_loss(truth.case, truth.options)
    gradients = truth.gradients((expected["loss"] - 0.3 * expected["entropy"]) @ case.weights)
    expected["by queries"] = gradients["queries"]
    for name, value in expected.items():
        assert ranks[0][name].tobytes() == ranks[1][name].tobytes(), name
        torch.testing.assert_close(torch.from_numpy(ranks[0][name]), value.detach())
    for name in ("outputs", "bias"):
        shards = np.concatenate([rank[f"by {name}"] for rank in ranks])
        torch.testing.assert_close(torch.from_numpy(shards), gradients[name])


def with_different_options() -> None:
    case, rank = case_of(8, torch.float64), dist.get_rank()
    shard, group = case.outputs.split((5, 3))[rank], dist.group.WORLD
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"z_loss": 0.1 * rank}, "options of the loss on rank 1 are not those on rank 0"),
        ({"temperature": torch.tensor(1.0 + rank)}, "options of the loss on rank 1"),
        ({"bias": torch.ones(shard.shape[0]).double()} if rank else {}, "options of the loss"),
        ({"class_weights": torch.ones(5).double()}, "each of the 8 items"),
        ({"bias": torch.ones(5).double()}, "bias"),
    ]
    for arguments, message in wrong:
        with pytest.raises(errors.InputError, match=message):
            mk.softmax_loss(case.queries, shard, case.targets, group=group, **arguments)


def test_options_that_differ_between_ranks_are_refused_on_every_rank() -> None:
    run_ranks(with_different_options, 2)


def test_log_probabilities_of_items_and_their_gradients() -> None:
    q, v, y, _ = Case.random(6, 40, 5, scale=3.0).args
    ids = torch.stack([y, (y + 1) % 40, y]).T.contiguous()
    bias, temperature = every_option(40).bias, torch.tensor(1.5, dtype=torch.float64)
    assert bias is not None
    leaves = [each.clone().requires_grad_() for each in (q, v, bias, temperature)]
    logits = (leaves[0] @ leaves[1].T + leaves[2]) / leaves[3]
    expected = log_softmax(logits, 1).gather(1, ids)
    gradients = torch.autograd.grad(expected.square().sum(), leaves)
    options: dict[str, Any] = {"bias": leaves[2], "temperature": leaves[3]}
    queries, outputs, *_ = leaves
    statistics = mk.softmax_statistics(queries, outputs, y, **options)
    for partition in (None, statistics.log_partition):
        result = mk.log_probabilities(queries, outputs, ids, partition, **options)
        torch.testing.assert_close(result, expected)
        torch.testing.assert_close(torch.autograd.grad(result.square().sum(), leaves), gradients)
    several = mk.log_probabilities(q.view(2, 3, 5), v, ids.view(2, 3, 3))
    torch.testing.assert_close(several, log_softmax(q @ v.T, 1).gather(1, ids).view(2, 3, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_log_probabilities_do_not_round_the_gradient_by_a_bias(dtype: torch.dtype) -> None:
    q, v, y, _ = Case.random(6, 40, 5, dtype=dtype, scale=3.0).args
    ids, bias = torch.stack([y, (y + 1) % 40]).T, softmax_full.random_bias(40).requires_grad_()
    exact = bias.detach().double().requires_grad_()
    expected = log_softmax(q.double() @ v.double().T + exact, 1).gather(1, ids)
    (gradient,) = torch.autograd.grad(mk.log_probabilities(q, v, ids, bias=bias).mean(), bias)
    (truth,) = torch.autograd.grad(expected.mean(), exact)
    assert relative_error(gradient, truth) <= softmax_full.SUMS_OF_WEIGHTS


def test_log_probabilities_have_second_derivatives_by_the_queries() -> None:
    ids, constant = torch.stack([CASE.targets, CASE.targets.flip(0)], 1), torch.zeros(4).double()

    def ours(q: Tensor, partition: Tensor | None = None) -> Tensor:
        return mk.log_probabilities(q, V, ids, partition).square().sum()

    def peer(q: Tensor) -> Tensor:
        return log_softmax(q @ V.T, 1).gather(1, ids).square().sum()

    torch.testing.assert_close(jacrev(jacrev(ours))(Q), jacrev(jacrev(peer))(Q))

    def logits(q: Tensor, v: Tensor) -> Tensor:
        return mk.log_probabilities(q, v, ids, constant)

    assert torch.autograd.gradgradcheck(
        logits, (Q.clone().requires_grad_(), V.clone().requires_grad_())
    )


def test_a_certain_item_keeps_its_log_probability() -> None:
    case = Case.random(1, 9, 4).at_margin(60.0)
    ids = torch.stack([(case.targets + 1) % 9, case.targets], 1)
    logs = mk.log_probabilities(case.queries, case.outputs, ids)
    loss = mk.softmax_loss(*case.args[:3], reduction="none")
    assert torch.equal(logs[:, 1], -loss)
    assert -1e-20 < float(logs[0, 1]) < 0


def test_log_probabilities_make_no_matrix_of_all_logits() -> None:
    case = Case.random(64, 2**17, 4, dtype=torch.float32)
    ids = torch.stack([case.targets, case.targets], 1)
    q = case.queries.requires_grad_()
    run = lambda: mk.log_probabilities(q, case.outputs, ids).sum().backward()  # noqa: E731
    assert extra_bytes(run, "cpu") < 4 * 64 * 2**17 / 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda q, v, i: (q, v, i[:, 0]), errors.ShapeError, r"\(\.\.\., k\) for \(\.\.\., d\)"),
        (lambda q, v, i: (q, v, i.float()), errors.DtypeError, "ids must be integers"),
        (lambda q, v, i: (q, v, i + 9), errors.RangeError, r"expected items in \[0, 11\)"),
        (lambda q, v, i: (q, v, i, q), errors.ShapeError, "log_partition"),
        (lambda q, v, i: (q, v, i, [0.0] * 4), errors.DtypeError, "log_partition has type list"),
        (lambda q, v, i: (q, v, i, q[:, 0].to("meta")), errors.DeviceError, "log_partition is on"),
        (lambda q, v, i: (q, v, i, q[:, 0].half()), errors.DtypeError, "log_partition must be"),
        (lambda q, v, i: (q.to_sparse(), v, i), errors.DtypeError, "queries has layout sparse"),
        (lambda q, v, i: (q[:0, :0], v[:, :0], i[:0]), errors.ShapeError, "and a dimension"),
        (lambda q, v, i: (q.tolist(), v, i), errors.DtypeError, "queries has type list"),
    ],
)
def test_wrong_ids_are_refused(change: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mk.log_probabilities(*change(Q, V, torch.stack([CASE.targets, CASE.targets], 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "nope"}, "backend is 'nope'"),
        ({"backend": ["torch"]}, r"backend is \['torch'\]"),
        ({"precision": "nope"}, "precision is 'nope'"),
        ({"precision": "tf32"}, "precision='tf32' needs backend='triton'"),
    ],
)
def test_a_log_partition_spares_no_check_of_the_backend(
    arguments: dict[str, Any], message: str
) -> None:
    ids = CASE.targets[:, None]
    for partition in (None, Q[:, 0]):
        with pytest.raises(errors.BackendError, match=message):
            mk.log_probabilities(Q, V, ids, partition, **arguments)


def test_a_log_partition_may_have_more_precision() -> None:
    q, v, y, _ = Case.random(6, 40, 5, dtype=torch.float32).args
    partition = mk.softmax_statistics(q, v, y).log_partition
    expected = mk.log_probabilities(q, v, y[:, None], partition)
    assert torch.equal(mk.log_probabilities(q, v, y[:, None], partition.double()), expected)


def test_without_gradients_statistics_are_the_same() -> None:
    with torch.no_grad():
        result = mk.softmax_statistics(*CASE.args[:3], **OPTIONS.arguments())
        loss = mk.softmax_loss(*CASE.args[:3], reduction="none", **OPTIONS.arguments())
    torch.testing.assert_close(result._asdict(), softmax_full.statistics(CASE, OPTIONS))
    torch.testing.assert_close(loss, result.loss)
    assert Options().arguments()["z_loss"] == 0
