"""The three passes over the items as torch.library operators, with shapes for tracing and autograd.

Each runs on the backend that its arguments choose. `softmax_odds` is all that loss and gradient
need; its derivative is `softmax_covariance`, and so the loss is differentiable twice and no more.
"""

from typing import Any, Optional

import torch
from torch import Tensor

from memsolve_kernels.softmax.backends import choose
from memsolve_kernels.softmax.checks import check_finite, check_values
from memsolve_kernels.softmax.passes import accumulation_dtype

Name = Optional[str]  # noqa: UP045 - the spelling that torch.library reads in every version


@torch.library.custom_op("memsolve::softmax_odds", mutates_args=())
def softmax_odds(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: Name, precision: Name
) -> tuple[Tensor, Tensor]:
    """Log-odds (B,) of the others against the target, and its gradient (B, d)."""
    run, items = choose(queries, backend, precision), len(outputs)
    check_values(targets, items, wait=run.indexes_targets, queries=queries, outputs=outputs)
    return run.odds(queries, outputs, targets.long())


@torch.library.custom_op("memsolve::softmax_covariance", mutates_args=())
def softmax_covariance(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    log_odds: Tensor,
    difference: Tensor,
    backend: Name,
    precision: Name,
) -> Tensor:
    """The Hessian of the log-odds times `directions` (B, d), of inputs that `softmax_odds` took."""
    run = choose(queries, backend, precision)
    check_finite(directions=directions)
    return run.covariance(queries, directions, outputs, targets.long(), log_odds, difference)


@torch.library.custom_op("memsolve::softmax_curvature", mutates_args=())
def softmax_curvature(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    backend: Name,
    precision: Name,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds (B,), its gradient (B, d) and its Hessian times `directions` (B, d)."""
    run = choose(queries, backend, precision)
    finite = {"queries": queries, "directions": directions, "outputs": outputs}
    check_values(targets, len(outputs), wait=run.indexes_targets, **finite)
    return run.curvature(queries, directions, outputs, targets.long())


@torch.library.custom_op("memsolve::softmax_rank", mutates_args=())
def softmax_rank(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: Name, precision: Name
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-odds, logit of the target, margin and rank: (B,) each, without the second product."""
    run, items = choose(queries, backend, precision), len(outputs)
    check_values(targets, items, wait=run.indexes_targets, queries=queries, outputs=outputs)
    return run.ranks(queries, outputs, targets.long())


@softmax_odds.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _row(queries), _matrix(queries)


@softmax_covariance.register_fake
def _(queries: Tensor, *_: Any) -> Tensor:
    return _matrix(queries)


@softmax_curvature.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _row(queries), _matrix(queries), _matrix(queries)


@softmax_rank.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rank = queries.new_empty(queries.shape[0], dtype=torch.int64)
    return _row(queries), _row(queries), _row(queries), rank


def _row(queries: Tensor) -> Tensor:
    return queries.new_empty(queries.shape[0], dtype=accumulation_dtype(queries.dtype))


def _matrix(queries: Tensor) -> Tensor:
    return queries.new_empty(queries.shape, dtype=accumulation_dtype(queries.dtype))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, outputs, targets, ctx.backend, ctx.precision = inputs
    ctx.save_for_backward(queries, outputs, targets, *output)
    ctx.set_materialize_grads(False)  # the gradient alone needs no second pass over the items


def _differentiate(
    ctx: Any, by_log_odds: Tensor | None, by_difference: Tensor | None
) -> tuple[Tensor | None, ...]:
    queries, outputs, targets, log_odds, difference = ctx.saved_tensors
    gradient: Tensor | None = None
    if by_log_odds is not None:
        gradient = by_log_odds[:, None] * difference
    if by_difference is not None:
        product = softmax_covariance(
            queries, by_difference, outputs, targets, log_odds, difference,
            ctx.backend, ctx.precision,
        )  # fmt: skip
        gradient = product if gradient is None else gradient + product
    return None if gradient is None else gradient.to(queries.dtype), None, None, None, None


softmax_odds.register_autograd(_differentiate, setup_context=_keep)
