"""The three passes over the items as torch.library operators, with shapes for tracing and autograd.

Each runs on the backend that its arguments choose. `softmax_mean` is all that loss and gradient
need; its derivative is `softmax_covariance`, and so the loss is differentiable twice and no more.
"""

from types import ModuleType
from typing import Any, Optional

import torch
from torch import Tensor

from memsolve_kernels.dispatch import choose_backend
from memsolve_kernels.errors import BackendError
from memsolve_kernels.softmax import reference, tiled
from memsolve_kernels.softmax.checks import check_finite, check_targets
from memsolve_kernels.softmax.precision import accumulation_dtype

Name = Optional[str]  # noqa: UP045 - the spelling that torch.library reads in every version


@torch.library.custom_op("memsolve::softmax_mean", mutates_args=())
def softmax_mean(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: Name, precision: Name
) -> tuple[Tensor, Tensor, Tensor]:
    """Log of the others' sum (B,), logit of the target (B,), mean of the others (B, d)."""
    check_finite(queries=queries, outputs=outputs)
    check_targets(targets, len(outputs))
    run = _backend(queries, backend, precision)
    log_others, target_logit, mean = run.mean_of_others(queries, outputs, targets.long())
    return log_others, target_logit, mean


@torch.library.custom_op("memsolve::softmax_covariance", mutates_args=())
def softmax_covariance(
    queries: Tensor,
    directions: Tensor,
    outputs: Tensor,
    targets: Tensor,
    log_others: Tensor,
    mean: Tensor,
    backend: Name,
    precision: Name,
) -> Tensor:
    """Covariance of the others under their softmax, times `directions`: (B, d)."""
    check_finite(directions=directions)
    run = _backend(queries, backend, precision)
    product: Tensor = run.covariance_of_others(
        queries, directions, outputs, targets.long(), log_others, mean
    )
    return product


@torch.library.custom_op("memsolve::softmax_rank", mutates_args=())
def softmax_rank(
    queries: Tensor, outputs: Tensor, targets: Tensor, backend: Name, precision: Name
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log of the others' sum, logit of the target, best logit of the others, rank: (B,) each."""
    check_finite(queries=queries, outputs=outputs)
    check_targets(targets, len(outputs))
    run = _backend(queries, backend, precision)
    log_others, target_logit, best_other, rank = run.rank_among_others(
        queries, outputs, targets.long()
    )
    return log_others, target_logit, best_other, rank


def _backend(queries: Tensor, backend: Name, precision: Name) -> ModuleType:
    choice = choose_backend(backend, queries, triton=False)  # type: ignore[arg-type]
    if precision not in (None, "ieee") and choice != "triton":
        raise BackendError(
            f"precision={precision!r} needs backend='triton'; backend={choice!r} computes in "
            f"{accumulation_dtype(queries.dtype)}"
        )
    return {"reference": reference, "torch": tiled}[choice]


@softmax_mean.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _row(queries), _row(queries), _matrix(queries)


@softmax_covariance.register_fake
def _(queries: Tensor, *_: Any) -> Tensor:
    return _matrix(queries)


@softmax_rank.register_fake
def _(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rank = queries.new_empty(queries.shape[0], dtype=torch.int64)
    return _row(queries), _row(queries), _row(queries), rank


def _row(queries: Tensor) -> Tensor:
    return queries.new_empty(queries.shape[0], dtype=accumulation_dtype(queries.dtype))


def _matrix(queries: Tensor) -> Tensor:
    return queries.new_empty(queries.shape, dtype=accumulation_dtype(queries.dtype))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, outputs, targets, ctx.backend, ctx.precision = inputs
    log_others, _, mean = output
    ctx.save_for_backward(queries, outputs, targets, log_others, mean)
    ctx.set_materialize_grads(False)  # the gradient alone needs no second pass over the items


def _differentiate(
    ctx: Any, by_log_others: Tensor | None, by_target_logit: Tensor | None, by_mean: Tensor | None
) -> tuple[Tensor | None, ...]:
    queries, outputs, targets, log_others, mean = ctx.saved_tensors
    gradient = torch.zeros_like(mean)
    if by_log_others is not None:
        gradient = gradient + by_log_others[:, None] * mean
    if by_target_logit is not None:
        gradient = gradient + by_target_logit[:, None] * outputs[targets.long()]
    if by_mean is not None:
        gradient = gradient + softmax_covariance(
            queries, by_mean, outputs, targets, log_others, mean, ctx.backend, ctx.precision
        )
    return gradient.to(queries.dtype), None, None, None, None


softmax_mean.register_autograd(_differentiate, setup_context=_keep)
