"""Outputs sharded over ranks: the errors of one process, and the same bits on every rank."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import memsolve_kernels as mk
import numpy as np
import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import errors
from memsolve_kernels.dispatch import BackendName
from memsolve_kernels.softmax import group as group_module
from memsolve_kernels.softmax.partials import LogitWeights
from memsolve_kernels.softmax.shards import ShardPasses
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.kernels.softmax_cases import Case, relative_error
from tests.kernels.softmax_ranks import case_of, equal, everything, shard_of, to_numpy
from tests.ranks import run_ranks

ROOT = Path(__file__).parents[2]
DOCS, README = ROOT / "docs" / "kernels.md", ROOT / "kernels" / "README.md"
RECIPES = re.findall(r"```text\n(.*?)```", DOCS.read_text(), re.DOTALL)
SIZES: dict[int, dict[str, tuple[int, ...]]] = {
    2: {"even": (6, 6), "uneven": (9, 3), "empty": (0, 12), "one item": (0, 1)},
    4: {
        "even": (3, 3, 3, 3),
        "uneven": (5, 1, 4, 2),
        "empty": (0, 8, 0, 4),
        "one item": (0, 0, 1, 0),
    },
}
FORMATS: list[tuple[torch.dtype, BackendName]] = [
    (torch.float64, "reference"),
    (torch.float64, "torch"),
    (torch.float32, "torch"),
    (torch.bfloat16, "torch"),
]


def every_sharding() -> dict[Any, dict[str, np.ndarray]]:
    """On one rank, the results by sharding and format; the uneven shards twice, with equal bits."""
    results = {}
    for name, sizes in SIZES[dist.get_world_size()].items():
        for dtype, backend in FORMATS:
            shard = shard_of(case_of(sum(sizes), dtype), sizes)
            run = partial(everything, shard, group=dist.group.WORLD, backend=backend)
            results[name, dtype, backend] = once = to_numpy(run())
            assert name != "uneven" or equal(once, to_numpy(run()))
    return results


@pytest.mark.parametrize("size", SIZES)
def test_errs_as_one_process_with_the_same_bits_on_every_rank(size: int) -> None:
    ranks = run_ranks(every_sharding, size)
    for name, dtype, backend in ranks[0]:
        case = case_of(sum(SIZES[size][name]), dtype)
        one = everything(case, backend=backend)
        truth = everything(case.to(torch.float64), backend="reference")
        shards = [rank[name, dtype, backend] for rank in ranks]
        for key, exact in truth.items():
            if key == "by outputs":
                value = np.concatenate([each[key] for each in shards])
            else:
                value = shards[0][key]
                assert all(each[key].tobytes() == value.tobytes() for each in shards), key
            assert_as_close(torch.from_numpy(value), one[key], exact, (name, dtype, backend, key))


def assert_as_close(value: Tensor, one: Tensor, truth: Tensor, label: object) -> None:
    """The value errs at most twice as much as that of one process, or by rounding."""
    finite = truth.isfinite()
    assert torch.equal(value.double()[~finite], truth.double()[~finite]), label
    if truth[finite].any():
        sums = torch.float64 if one.dtype == torch.float64 else torch.float32
        rounding = 16 * torch.finfo(sums).eps  # of logits up to 16, so of their exponentials
        bound = max(2 * relative_error(one[finite], truth[finite]), rounding)
        assert relative_error(value[finite], truth[finite]) <= bound, label
    else:
        assert not value[finite].any(), label


def with_dtensors() -> None:
    """On one rank: a DTensor gives what one process does, and its gradient is a DTensor."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for items in (11, 1):  # uneven, and with an empty shard
        case = case_of(items, torch.float64)
        head = torch.nn.Parameter(distribute_tensor(case.outputs, mesh, [Shard(0)]))
        ours, expected = everything(case, head), everything(case)
        by_outputs = ours.pop("by outputs")
        assert isinstance(by_outputs, DTensor)
        assert by_outputs.placements == (Shard(0),)
        torch.testing.assert_close(by_outputs.full_tensor(), expected.pop("by outputs"))
        torch.testing.assert_close(ours, expected)

    plain = distribute_tensor(case.queries, mesh, [Replicate()])
    uneven = DTensor.from_local(case.outputs[: dist.get_rank()], mesh, [Shard(0)])
    for queries, outputs, message in (
        (case.queries, plain, r"placed as \(Replicate\(\),\) on 1 dim.*; expected \(Shard\(0\),\)"),
        (plain, head, r"queries are a DTensor; .*: queries\.full_tensor\(\)"),
        (
            case.queries,
            uneven,
            "a DTensor of 0 items on rank 0 of the group, and their shards have 1",
        ),
    ):
        with pytest.raises(errors.InputError, match=message):
            mk.retrieval(queries, outputs, case.targets)
    with pytest.raises(errors.InputError, match="omit group="):
        mk.retrieval(case.queries, head, case.targets, group=dist.group.WORLD)


def test_dtensors_need_no_group() -> None:
    run_ranks(with_dtensors, 2)


def ignoring() -> None:
    """On one rank: what ignored queries hold does not matter, though it differs between ranks."""
    case = case_of(8, torch.float64)
    ignored = torch.arange(7) % 3 == 1
    targets, generator = case.targets.masked_fill(ignored, -100), torch.Generator()
    noise = torch.randn(7, 5, generator=generator.manual_seed(dist.get_rank()))
    q = torch.where(ignored[:, None], noise / (noise > 1), case.queries).requires_grad_()
    shard = shard_of(case, (3, 5)).outputs
    one = mk.softmax_loss(q, case.outputs, targets, ignore_index=-100)
    options = {"ignore_index": -100, "group": dist.group.WORLD}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = mk.softmax_loss(q, shard, targets, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, one)
    torch.testing.assert_close(*(torch.autograd.grad(each, q)[0] for each in (ours, one)))
    none = mk.softmax_loss(q[:0], shard, targets[:0], **options)  # type: ignore[arg-type]
    assert none == 0


def test_ignored_queries_may_differ_between_ranks() -> None:
    run_ranks(ignoring, 2)


def counting(run: Callable[..., Any], counts: dict[str, int], name: str) -> Callable[..., Any]:
    def counted(*args: Any, **options: Any) -> Any:
        counts[name] += 1
        return run(*args, **options)

    return counted


def collectives() -> dict[str, int]:
    """On one rank, how many each function issues, and a backward pass after them."""
    names = "all_gather", "all_reduce"
    counts = dict.fromkeys(names, 0)
    for name in names:
        setattr(dist, name, counting(getattr(dist, name), counts, name))
    case = case_of(8, torch.float64)
    queries, sizes = case.queries, (8,) if dist.get_world_size() == 1 else (5, 3)
    case, group = shard_of(case, sizes), dist.group.WORLD
    totals = {}

    def count(label: str, run: Callable[[], Any]) -> Any:
        counts.update(dict.fromkeys(names, 0))
        result = run()
        totals[label] = sum(counts.values())
        return result

    q, v = queries.clone().requires_grad_(), case.outputs.clone().requires_grad_()
    inputs = case.outputs, case.targets
    count("gradient", lambda: mk.softmax_gradient(queries, *inputs, group=group))
    count("hvp", lambda: mk.softmax_hvp(queries, queries, *inputs, group=group))
    count("retrieval", lambda: mk.retrieval(queries, *inputs, group=group))
    loss = count("loss", lambda: mk.softmax_loss(q, v, case.targets, group=group))
    grad = torch.autograd.grad
    gradient, _ = count("backward", lambda: grad(loss, (q, v), create_graph=True))
    count("second", lambda: grad(gradient, q, queries))
    setattr(group_module, "GATHERED_BYTES", 1)  # noqa: B010 - of this process, which ends
    blocks = count("blocks", lambda: mk.softmax_gradient(queries, *inputs, group=group))
    torch.testing.assert_close(blocks[1], gradient)
    return totals


def test_a_group_of_one_issues_no_collective_and_a_backward_pass_none() -> None:
    assert set(run_ranks(collectives, 1)[0].values()) == {0}
    expected = {"gradient": 3, "hvp": 4, "retrieval": 3, "loss": 3, "backward": 0, "second": 2}
    expected |= {"blocks": 9}  # one gather for each query
    assert run_ranks(collectives, 2) == [expected, expected]


def compiled() -> None:
    """On one rank: a call with a group is outside of the graph."""
    case, group = case_of(8, torch.float64), dist.group.WORLD

    def loss(queries: Tensor) -> Tensor:
        return mk.softmax_loss(queries.sin(), *case.args[1:], group=group).exp()

    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(loss, backend="eager", fullgraph=True)(case.queries)
    torch.compiler.reset()
    ours = torch.compile(loss, backend="eager")(case.queries)
    torch.testing.assert_close(ours, loss(case.queries))


def test_a_compiled_function_breaks_its_graph_for_a_group() -> None:
    run_ranks(compiled, 1)


def recipes() -> None:
    """On one rank: the recipes of docs/kernels.md do what one process does."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    case, tokens = case_of(7, torch.float32), torch.randn(8, 6)
    labels = torch.randint(7, (8,))
    body, head = torch.nn.Linear(6, 5), torch.nn.Linear(5, 7, bias=False)
    expected = cross_entropy(head(body(tokens)), labels)
    expected.backward()
    parameters = body.weight, head.weight
    gradients = [each.grad.clone() for each in parameters if each.grad is not None]
    for module in (body, head):
        module.zero_grad()

    names = {name: value for name, value in vars(mk).items() if not name.startswith("_")}
    names |= {"torch": torch, "dist": dist, "rank": rank, "size": size, "fully_shard": fully_shard}
    names |= {"body": body, "head": head, "tokens": tokens.chunk(size)[rank]}
    names |= {"labels": labels.chunk(size)[rank]}
    names |= {"queries": case.queries, "outputs": case.outputs, "targets": case.targets}
    for recipe in RECIPES:
        exec(recipe, names)
    torch.testing.assert_close(names["loss"], expected)
    for each, truth in zip((body.weight, head.weight), gradients, strict=True):
        assert isinstance(each.grad, DTensor)
        torch.testing.assert_close(each.grad.full_tensor(), truth)
    torch.testing.assert_close(names["statistics"], mk.retrieval(*case.args[:3]))


def test_the_recipes_of_the_docs_train_as_one_process() -> None:
    assert len(RECIPES) == 2
    run_ranks(recipes, 2)


def test_tiles_of_one_process_give_what_all_outputs_do() -> None:
    q, outputs, y, _ = Case.random(4, 50_000, 3, scale=3.0).args
    (recipe,) = re.findall(r"```python\n([^`]*Shard,[^`]*)```", README.read_text())
    names: dict[str, Any] = {"queries": q, "outputs": outputs, "targets": y}
    exec(recipe, names)
    passes: ShardPasses = names["passes"]
    tiles, own = names["tiles"], names["own"]
    run = passes.backend
    log_odds, difference, _ = expected = run.odds(q, outputs, y)
    ours = names["log_odds"], names["difference"], names["others"]
    torch.testing.assert_close(ours[:2], expected[:2])
    odds = log_odds, difference
    torch.testing.assert_close(
        passes.covariance(q, q.flip(0), tiles(), y, own, *odds),
        run.covariance(q, q.flip(0), outputs, y, *odds),
    )
    torch.testing.assert_close(passes.ranks(q, tiles(), y, own), run.ranks(q, outputs, y))
    weights = LogitWeights(log_odds)
    gradients = [
        run.outputs_gradient(q, tile, y - first, ours[2], weights) for first, tile in tiles()
    ]
    of_all = run.outputs_gradient(q, outputs, y, expected[2], weights)
    torch.testing.assert_close(torch.cat(gradients), of_all)
