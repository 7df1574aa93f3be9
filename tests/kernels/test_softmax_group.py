"""Outputs sharded over ranks: the errors of one process, and the same bits on every rank."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import memsolve_kernels as mk
import numpy as np
import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import errors
from memsolve_kernels.dispatch import BackendName
from torch import Tensor

from tests.kernels.softmax_cases import Case, relative_error
from tests.ranks import run_ranks

Results = dict[str, Tensor]
SIZES = {
    2: {"even": (6, 6), "uneven": (9, 3), "empty": (0, 12), "one item": (0, 1)},
    4: {
        "even": (3, 3, 3, 3),
        "uneven": (5, 1, 4, 2),
        "empty": (0, 8, 0, 4),
        "one item": (0, 0, 1, 0),
    },
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
BACKENDS: list[BackendName] = ["reference", "torch"]


def case_of(items: int, dtype: torch.dtype) -> Case:
    return Case.random(7, items, 5, dtype=dtype, scale=3.0)


def shard_of(case: Case, sizes: tuple[int, ...]) -> Case:
    return replace(case, outputs=case.outputs.split(sizes)[dist.get_rank()])


def everything(case: Case, outputs: Tensor | None = None, **options: Any) -> Results:
    """Whatever the functions compute from the case's outputs, or from others."""
    v = (case.outputs if outputs is None else outputs).detach().requires_grad_()
    q, others, directions = (
        case.queries.clone().requires_grad_(),
        case.args[2:],
        case.queries.flip(0),
    )
    loss = mk.softmax_loss(q, v, *others, **options)
    by_queries, by_outputs = torch.autograd.grad(loss, (q, v), create_graph=True)
    (second,) = torch.autograd.grad(by_queries, q, directions)
    direct_loss, direct = mk.softmax_gradient(case.queries, v, *others, **options)
    plain = case.queries, v.detach(), case.targets
    results = {
        "loss": loss,
        "losses": mk.softmax_loss(*plain, reduction="none", **options),
        "by queries": by_queries,
        "by outputs": by_outputs,
        "second derivative": second,
        "direct loss": direct_loss,
        "direct": direct,
        "hvp": mk.softmax_hvp(case.queries, directions, v, *others, **options),
        **mk.retrieval(*plain, **options)._asdict(),
    }
    return {name: each.detach() for name, each in results.items()}


def to_numpy(results: Results) -> dict[str, np.ndarray]:
    half = torch.bfloat16  # which numpy has not
    return {k: (v.float() if v.dtype == half else v).numpy() for k, v in results.items()}


def equal(results: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Whether all bits are."""
    return all(each.tobytes() == others[name].tobytes() for name, each in results.items())


def every_sharding() -> dict[Any, dict[str, np.ndarray]]:
    """On one rank, the results by sharding, dtype and backend; twice the same bits."""
    results = {}
    for name, sizes in SIZES[dist.get_world_size()].items():
        for dtype in DTYPES:
            shard = shard_of(case_of(sum(sizes), dtype), sizes)
            for backend in BACKENDS:
                options = {"group": dist.group.WORLD, "backend": backend}
                once, again = (to_numpy(everything(shard, **options)) for _ in range(2))
                assert equal(once, again)
                results[name, dtype, backend] = once
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
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for items in (11, 5, 1):  # uneven, with an empty shard, and with three of them
        case = case_of(items, torch.float64)
        head = torch.nn.Parameter(distribute_tensor(case.outputs, mesh, [Shard(0)]))
        ours, expected = everything(case, head), everything(case)
        by_outputs = ours.pop("by outputs")
        assert isinstance(by_outputs, DTensor)
        assert by_outputs.placements == (Shard(0),)
        torch.testing.assert_close(by_outputs.full_tensor(), expected.pop("by outputs"))
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("size", [4])
def test_dtensors_need_no_group(size: int) -> None:
    run_ranks(with_dtensors, size)
