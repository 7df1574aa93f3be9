"""The entropy of the softmax as a differentiable function: once by the queries.

Its value costs no pass: it follows from the log-odds and their gradient. Its gradient is the
covariance of the outputs with the logits, which is a pass over the items.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from memsolve_kernels.softmax.differentiation import (
    ENTROPY_ONCE,
    queries_tangent,
    refuse,
    run_function,
)
from memsolve_kernels.softmax.ops import run, softmax_covariance, softmax_entropy
from memsolve_kernels.softmax.rows import entropy_gradient


def entropy(*inputs: Any) -> Tensor:
    """`softmax_entropy`, differentiable by the queries.

    Log-odds and difference, which are functions of the queries, are constants here.
    """
    queries, outputs, targets, log_odds, difference, *options = inputs
    constants = outputs.detach(), targets, log_odds.detach(), difference.detach()
    result: Tensor = run_function(
        _Entropy, partial(run, softmax_entropy), queries, *constants, *options
    )
    return result


class _Entropy(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        result: Tensor = run(softmax_entropy, *args)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.backend, ctx.precision = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once, since a checkpoint unpacks them once
        queries, rows = saved[0], _gradient(ctx, saved)
        gradient = (by[0].detach()[:, None] * rows).to(queries.dtype)
        return refuse(gradient, ENTROPY_ONCE, queries, by[0]), *[None] * 6

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        saved = ctx.saved_tensors
        product = (queries_tangent(tangents) * _gradient(ctx, saved)).sum(1)
        return refuse(product, ENTROPY_ONCE, saved[0])


def _gradient(ctx: Any, saved: tuple[Tensor, ...]) -> Tensor:
    """The gradient of each query's entropy by it, (B, d)."""
    queries, outputs, targets, log_odds, difference = saved
    with torch.no_grad():
        product = run(
            softmax_covariance, queries, None, outputs, targets, log_odds, difference,
            ctx.backend, ctx.precision,
        )  # fmt: skip
        return entropy_gradient(queries, log_odds, difference, product)


softmax_entropy.register_autograd(_Entropy.backward, setup_context=_Entropy.setup_context)
