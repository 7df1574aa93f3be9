"""What a rank computes from its shard of the outputs, for tests of several ranks."""

from dataclasses import replace
from typing import Any

import memsolve_kernels as mk
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from tests.kernels.softmax_cases import Case

Results = dict[str, Tensor]


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
