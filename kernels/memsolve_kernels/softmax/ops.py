"""The passes over the items as torch.library operators, with shapes for tracing and rules for vmap.

Each runs on the backend that its arguments select, and in full precision under `torch.autocast`,
which would lower the precision of torch's products. For derivatives see `derivatives.py`.
"""

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef

from memsolve_kernels.modes import any_traced, without_autocast
from memsolve_kernels.softmax.backends import select_backend
from memsolve_kernels.softmax.batching import by_rows, one_by_one
from memsolve_kernels.softmax.checks import check_values
from memsolve_kernels.softmax.partials import LogitWeights, accumulation_dtype
from memsolve_kernels.softmax.rows import entropies
from memsolve_kernels.softmax.tensor_checks import check_finite

Name = Optional[str]  # noqa: UP045 - the spelling that torch.library reads in every version
Function = Callable[..., Any]

_implementations: dict[CustomOpDef, Function] = {}


def run(operator: CustomOpDef, *inputs: Any) -> Any:
    """Call an operator if its inputs are traced, or else its implementation.

    An operator's dispatch costs time, and its first call loads `torch._dynamo`. If `group.Sharded`
    takes the place of the backend's name, its method is called.
    """
    *tensors, backend, _ = inputs
    if not (backend is None or isinstance(backend, str)):
        method = getattr(backend, _implementations[operator].__name__)
        return without_autocast(method)(*tensors)
    if any_traced(inputs):
        return operator(*inputs)
    return _implementations[operator](*inputs)


def _operator(name: str) -> Callable[[Function], CustomOpDef]:
    def register(function: Function) -> CustomOpDef:
        operator = torch.library.custom_op(f"memsolve::{name}", function, mutates_args=())
        _implementations[operator] = function
        return operator

    return register


@_operator("softmax_odds")
@without_autocast
def softmax_odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: Name, precision: Name
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds (B,) of the others against the target, its gradient (B, d), the others (B, 2)."""
    run, items = select_backend(queries, backend, precision), outputs.shape[0]
    targets = targets.long()  # a narrow dtype may be too small for N, which they are compared with
    check_values(targets, items, wait=run.indexes_targets, queries=queries, outputs=outputs)
    return run.odds(queries, outputs, targets)


@_operator("softmax_covariance")
@without_autocast
def softmax_covariance(
    queries: Tensor,
    directions: Optional[Tensor],  # noqa: UP045
    outputs: Tensor,
    targets: Tensor,
    log_odds: Tensor,
    difference: Tensor,
    backend: Name,
    precision: Name,
) -> Tensor:
    """The Hessian of the log-odds times `directions` (B, d), from the results of `softmax_odds`.

    Without directions, times the queries: the covariance of the others' outputs and logits.
    """
    run = select_backend(queries, backend, precision)
    if directions is not None:
        check_finite(directions=directions)
    return run.covariance(queries, directions, outputs, targets.long(), log_odds, difference)


@_operator("softmax_curvature")
@without_autocast
def softmax_curvature(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    backend: Name,
    precision: Name,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds (B,), its gradient (B, d) and its Hessian times `directions` (B, d)."""
    run, targets = select_backend(queries, backend, precision), targets.long()
    finite = {"queries": queries, "directions": directions, "outputs": outputs}
    check_values(targets, outputs.shape[0], wait=run.indexes_targets, **finite)
    return run.curvature(queries, directions, outputs, targets)


@_operator("softmax_outputs")
@without_autocast
def softmax_outputs(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    others: Tensor,
    by_others: Tensor,
    by_target: Optional[Tensor],  # noqa: UP045
    by_logit: Optional[Tensor],  # noqa: UP045
    bias_column: Optional[int],  # noqa: UP045
    backend: Name,
    precision: Name,
) -> tuple[Tensor, Tensor]:
    """The gradients of `OutputsGradient`; see `SoftmaxBackend.outputs_gradient`."""
    run, targets = select_backend(queries, backend, precision), targets.long()
    weights = LogitWeights(by_others, by_target, by_logit)
    gradient = run.rounded_outputs_gradient(queries, outputs, targets, others, weights, bias_column)
    return gradient.by_outputs, gradient.by_bias


@_operator("softmax_entropy_gradients")
@without_autocast
def softmax_entropy_gradients(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    log_odds: Tensor,
    difference: Tensor,
    others: Tensor,
    by_others: Tensor,
    by_target: Tensor,
    by_logit: Tensor,
    bias_column: Optional[int],  # noqa: UP045
    backend: Name,
    precision: Name,
) -> tuple[Tensor, Tensor, Tensor]:
    """The results of `softmax_covariance` without directions, and of `softmax_outputs`."""
    run, targets = select_backend(queries, backend, precision), targets.long()
    odds, weights = (log_odds, difference, others), LogitWeights(by_others, by_target, by_logit)
    inputs = queries, outputs, targets, *odds, weights
    product, gradient = run.entropy_gradients(*inputs, bias_column)
    return product, gradient.by_outputs, gradient.by_bias


@_operator("softmax_entropy")
@without_autocast
def softmax_entropy(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    log_odds: Tensor,
    difference: Tensor,
    backend: Name,
    precision: Name,
) -> Tensor:
    """The entropy (B,) of each query's softmax, from the results of `softmax_odds`."""
    return entropies(queries, log_odds, difference)


@_operator("softmax_rank")
@without_autocast
def softmax_rank(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: Name, precision: Name
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-odds, logit of the target, margin and rank: (B,) each, without the second product."""
    run, items = select_backend(queries, backend, precision), outputs.shape[0]
    targets = targets.long()  # a narrow dtype may be too small for N, which they are compared with
    check_values(targets, items, wait=run.indexes_targets, queries=queries, outputs=outputs)
    return run.ranks(queries, outputs, targets)


@softmax_odds.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    others = queries.new_empty(queries.shape[0], 2, dtype=accumulation_dtype(queries.dtype))
    return _row(queries), _matrix(queries), others


@softmax_covariance.register_fake
def _(queries: Tensor, *_: Any) -> Tensor:
    return _matrix(queries)


@softmax_entropy.register_fake
def _(queries: Tensor, *_: Any) -> Tensor:
    return _row(queries)


@softmax_outputs.register_fake
def _(queries: Tensor, outputs: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return outputs.new_empty(outputs.shape), _bias(outputs, *rest)


@softmax_entropy_gradients.register_fake
def _(queries: Tensor, outputs: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _matrix(queries), outputs.new_empty(outputs.shape), _bias(outputs, *rest)


@softmax_curvature.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _row(queries), _matrix(queries), _matrix(queries)


@softmax_rank.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rank = queries.new_empty(queries.shape[0], dtype=torch.int64)
    return _row(queries), _row(queries), _row(queries), rank


def _row(queries: Tensor) -> Tensor:
    return queries.new_empty(queries.shape[0], dtype=accumulation_dtype(queries.dtype))


def _bias(outputs: Tensor, *rest: Any) -> Tensor:
    """Of the arguments of an operator from the outputs on."""
    *_, bias_column, _backend, _precision = rest
    items = 0 if bias_column is None else outputs.shape[0]
    return outputs.new_empty(items, dtype=accumulation_dtype(outputs.dtype))


def _matrix(queries: Tensor) -> Tensor:
    return queries.new_empty(queries.shape, dtype=accumulation_dtype(queries.dtype))


softmax_odds.register_vmap(by_rows(softmax_odds, outputs_at=1))
softmax_covariance.register_vmap(by_rows(softmax_covariance, outputs_at=2))
softmax_curvature.register_vmap(by_rows(softmax_curvature, outputs_at=2))
softmax_entropy_gradients.register_vmap(one_by_one(softmax_entropy_gradients))
softmax_outputs.register_vmap(one_by_one(softmax_outputs))
softmax_entropy.register_vmap(by_rows(softmax_entropy, outputs_at=1))
softmax_rank.register_vmap(by_rows(softmax_rank, outputs_at=1))
