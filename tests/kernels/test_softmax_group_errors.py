"""Outputs sharded over ranks: an error on one rank, or between ranks, is an error on every rank."""

import re
from collections.abc import Callable
from typing import Any

import memsolve_kernels as mk
import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import errors
from memsolve_kernels.softmax.digest import digest
from torch import Tensor

from tests.kernels.softmax_cases import Case
from tests.kernels.softmax_ranks import case_of, shard_of
from tests.ranks import run_ranks

DIFFERENT = "on rank 1 are not those on rank 0, bit for bit"


def dtensor(tensor: Tensor) -> Tensor:
    """A replicated DTensor on one rank, which no other rank has to know."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Replicate

    mesh = DeviceMesh("cpu", [0, 1], _init_backend=False)
    return DTensor.from_local(tensor, mesh, [Replicate()], run_check=False)


def mapped(case: Case, on: Callable[..., Any]) -> object:
    return torch.func.grad(lambda q: on(case, q=q))(case.queries)


def second_by_outputs(case: Case, on: Callable[..., Any], items: int) -> None:
    """A second derivative by all outputs on one rank, and by none on the other."""
    q = case.queries.clone().requires_grad_()
    v = case_of(6, torch.float32).outputs[:items].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(on(case, q=q, v=v), q, create_graph=True)
    torch.autograd.grad(gradient.sum(), (q, v))


def call(
    case: Case,
    *,
    function: Callable[..., object] = mk.softmax_loss,
    q: Tensor | None = None,
    v: Tensor | None = None,
    y: Tensor | None = None,
    **options: Any,
) -> object:
    inputs = {"queries": q, "outputs": v, "targets": y}
    changes = {name: each for name, each in inputs.items() if each is not None}
    inputs = {"queries": case.queries, "outputs": case.outputs, "targets": case.targets}
    return function(**{**inputs, **changes, "group": dist.group.WORLD, **options})


WRONG: list[tuple[Callable[[int, Case, Any], object], str]] = [
    (lambda odd, c, on: on(c, v=c.outputs[:, :3] if odd else c.outputs), "the same last dimension"),
    (lambda odd, c, on: on(c, v=c.outputs * (torch.nan if odd else 1)), r"outputs\[0, 0\] is nan"),
    (
        lambda odd, c, on: on(c, q=c.queries[:, 2 * odd :], v=c.outputs[:, 2 * odd :]),
        "outputs have d = 3 on rank 1 and 5 on rank 0",
    ),
    (
        lambda odd, c, on: on(c.to(torch.bfloat16) if odd else c),
        "outputs are torch.bfloat16 on rank 1 and torch.float32 on rank 0",
    ),
    (
        lambda odd, c, on: on(c, q=c.queries[odd:], y=c.targets[odd:]),
        "there are 6 queries on rank 1 and 7 on rank 0; .* gather the batches",
    ),
    (
        lambda odd, c, on: on(c, q=c.queries[None], y=c.targets if odd else c.targets[None]),
        r"targets \(7,\) must hold one item for each of the queries \(1, 7, 5\): expected \(1, 7\)",
    ),
    (
        lambda odd, c, on: on(c, q=c.queries + odd),
        "on rank 1 are not those on rank 0, .* gather the batches",
    ),
    (lambda odd, c, on: on(c, q=c.queries.flip(odd)), DIFFERENT),
    (lambda odd, c, on: on(c, q=c.queries[:, [odd, 1 - odd, 2, 3, 4]]), DIFFERENT),
    (lambda odd, c, on: on(c, y=c.targets.roll(odd)), DIFFERENT),
    (lambda odd, c, on: on(c, y=torch.tensor([[3, 5], [1, 4]][odd] + [0] * 5)), DIFFERENT),
    (lambda odd, c, on: on(c, weights=c.weights + odd), DIFFERENT),
    (lambda odd, c, on: on(c, weights=None if odd else c.weights * 0), DIFFERENT),
    (
        lambda odd, c, on: on(c, q=c.queries * 0, y=c.targets * 0, ignore_index=odd - 1),
        DIFFERENT,
    ),
    (
        lambda odd, c, on: on(c, function=mk.softmax_hvp, directions=c.queries + odd),
        DIFFERENT,
    ),
    (
        lambda odd, c, on: on(c, function=mk.softmax_gradient if odd else mk.retrieval),
        "rank 1 calls softmax_gradient and rank 0 calls retrieval",
    ),
    (
        lambda odd, c, on: on(c, reduction="none" if odd else "weighted"),
        r"rank 1 calls softmax_loss\(reduction='none'\) and rank 0 calls softmax_loss;",
    ),
    (lambda odd, c, on: on(c, reduction="mean" if odd else "none"), "reduction is 'mean'"),
    (
        lambda odd, c, on: on(c, weights=c.weights, reduction="none" if odd else "weighted"),
        "reduction='none' takes no weights",
    ),
    (lambda odd, c, on: on(c, ignore_index="pad" if odd else -1), "TypeError|object is not"),
    (lambda odd, c, on: on(c, q=c.queries.tolist() if odd else None), "queries has type list"),
    (lambda odd, c, on: on(c, q=dtensor(c.queries) if odd else None), "queries are a DTensor"),
    (lambda odd, c, on: on(c, v=dtensor(c.outputs) if odd else None), "omit group="),
    (lambda odd, c, on: mapped(c, on) if odd else on(c), r"use torch\.autograd"),
    (lambda odd, c, on: on(c, q=c.queries.to("meta") if odd else None), "traced or mapped"),
    (
        lambda odd, c, on: on(c, backend="torch", precision="ieee" if odd else None),
        "precision is 'ieee' on rank 1 and None on rank 0",
    ),
    (lambda odd, c, on: second_by_outputs(c, on, items=6 * odd), "outputs.detach"),
    (
        lambda odd, c, on: on(c, v=c.outputs.clone().requires_grad_(odd > 0)),
        "require a gradient is True on rank 1 and False on rank 0",
    ),
    (
        lambda odd, c, on: on(c, bias=torch.zeros_like(c.outputs[:, 0], requires_grad=odd > 0)),
        "require a gradient is True on rank 1 and False on rank 0",
    ),
    (
        lambda odd, c, on: on(c, temperature=torch.tensor(2.0, requires_grad=odd > 0)),
        "bias or temperature require a gradient is True on rank 1",
    ),
    (
        lambda odd, c, on: on(c, backend="reference" if odd else "torch"),
        "backend is 'reference' on rank 1 and 'torch' on rank 0",
    ),
    (lambda odd, c, on: on(c, y=c.targets + 6), r"expected an item in \[0, 6\)"),
    (lambda odd, c, on: on(c, y=c.targets - 6), r"expected an item in \[0, 6\)"),
    (lambda odd, c, on: on(c, v=c.outputs[:0]), "no rank of the group has any"),
    (lambda odd, c, on: on(c, q=c.queries / 0), r"queries\[0, 0\] is .*inf"),
    (lambda odd, c, on: on(c, group="world"), "group has type str; expected a torch.distributed"),
    (lambda odd, c, on: on(c, precision="tf32"), "needs backend='triton'"),
]


CALL_ERRORS = errors.InputError, NotImplementedError, RuntimeError, TypeError


def errors_of_wrong_calls() -> list[tuple[str, str]]:
    """On one rank, the errors of calls that are wrong on one rank, or on both."""
    case, raised = shard_of(case_of(6, torch.float32), (4, 2)), []
    for wrong, _ in WRONG:
        with pytest.raises(CALL_ERRORS) as info:
            wrong(dist.get_rank(), case, call)
        raised.append((info.type.__name__, str(info.value)))
    return raised


def test_what_is_wrong_on_one_rank_raises_on_every_rank() -> None:
    for (_, pattern), zero, one in zip(WRONG, *run_ranks(errors_of_wrong_calls, 2), strict=True):
        (class_zero, text_zero), (class_one, text_one) = zero, one
        assert re.search(pattern, text_one)
        if text_zero != text_one:
            own = text_one if class_zero == class_one else f"{class_one}: {text_one}"
            assert text_zero == f"rank 1 of the group raised: {own}"
            assert class_zero in (class_one, "RuntimeError")
        else:
            assert class_zero == class_one


def test_a_digest_depends_on_every_bit_and_place() -> None:
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        q = torch.randn(6, 4, generator=generator).to(dtype)
        others = [q.flip(0), q.flip(1), -q, q.roll(1, 0), q[:, [1, 0, 2, 3]], q * 2, q.T, q[:5]]
        others += [torch.where(torch.arange(24).view(6, 4) == i, -q, q) for i in range(24)]
        values = [int(digest([each])) for each in (q, *others)]
        assert len(set(values)) == len(values)
        assert int(digest([q.T.contiguous().T])) == values[0]
    pairs = torch.cartesian_prod(torch.arange(60), torch.arange(60))
    assert len({int(digest([pair])) for pair in pairs}) == len(pairs)
    one, two = pairs[1], pairs[61]
    digests: list[list[Tensor | None]] = [
        [one, two],
        [two, one],
        [one, None, two],
        [one, two, None],
        [one],
    ]
    assert len({int(digest(each)) for each in digests}) == len(digests)
    assert int(digest([torch.zeros(0, 3)])) == 0
