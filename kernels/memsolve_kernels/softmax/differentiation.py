"""What the differentiable functions of the softmax share: modes, and derivatives that are refused.

Backward and forward mode, and the transforms of `torch.func`, use `Function`s. `torch.compile` does
not trace a function with a `jvp`, so that it gets an operator, with the same `backward`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch.autograd import Function

from memsolve_kernels.modes import apply, is_differentiated, transforms

FORWARD_TWICE = (
    "forward mode over forward mode is not supported by the softmax loss: use it over backward "
    "mode, as torch.func.jacfwd(torch.func.jacrev(...))"
)
BY_QUERIES = (
    "forward mode differentiates the softmax loss by the queries only, and the outputs have a "
    "tangent: use backward mode, or torch.func.jvp of a function of the queries"
)
ENTROPY_ONCE = (
    "the entropy of the softmax is differentiable once, by queries or outputs: a second derivative "
    "is not supported"
)
COMPILED = (
    "forward mode inside torch.compile is not supported by the softmax loss: compile without "
    "fullgraph=True, or use backward mode"
)


def run_function(function: type[Function], operator: Callable[..., Any], *inputs: Any) -> Any:
    """Apply a `Function` where something differentiates it, else call its operator."""
    if torch.compiler.is_compiling():
        from memsolve_kernels.compiler import is_forward_mode

        if is_forward_mode():
            raise NotImplementedError(COMPILED)
        return operator(*inputs)
    if not is_differentiated(*inputs):
        return operator(*inputs)
    if transforms().count(TransformType.Jvp) > 1:
        raise NotImplementedError(FORWARD_TWICE)
    return apply(function, *inputs)


def refuse(tensor: Tensor, why: str, *by: Tensor) -> Tensor:
    """The tensor; differentiation by it, or by others (`by`), raises NotImplementedError."""
    guarded: Tensor = run_function(_Refuse, lambda tensor, *_: tensor, tensor, why, *by)
    return guarded


def expand_zero(like: Tensor) -> Tensor:
    """Zeros of the same shape, in the memory of one element."""
    return like.new_zeros(()).expand_as(like)


def queries_tangent(tangents: tuple[Any, ...]) -> Tensor:
    """The tangent of queries and outputs, the first two inputs, which must be the queries'."""
    queries: Tensor | None = tangents[0]
    if queries is None or tangents[1] is not None:
        raise NotImplementedError(BY_QUERIES)
    return queries


class _Refuse(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, why: str, *by: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.why = inputs[1]

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None]:
        raise NotImplementedError(ctx.why)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(ctx.why)
