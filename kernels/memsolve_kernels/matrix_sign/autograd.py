"""The matrix sign as a differentiable function: in backward and forward mode, and of `torch.func`.

A compiler does not trace a function with a `jvp`, so that it gets the operator itself, with the
same `backward`.
"""

from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch.autograd import Function

from memsolve_kernels.matrix_sign.checks import differentiates_by
from memsolve_kernels.matrix_sign.derivative import derivative
from memsolve_kernels.matrix_sign.ops import flatten, sign, traced_sign
from memsolve_kernels.matrix_sign.settings import Settings
from memsolve_kernels.modes import apply, is_differentiated, is_traced, transforms

FORWARD_TWICE = (
    "forward mode over forward mode is not supported by the matrix sign: use it over backward "
    "mode, as torch.func.jacfwd(torch.func.jacrev(...))"
)
COMPILED = (
    "a derivative of torch.func inside torch.compile is not supported by the matrix sign: compile "
    "without fullgraph=True, or use backward()"
)


def differentiable_sign(matrix: Tensor, settings: Settings) -> Tensor:
    """The sign of a matrix with its derivatives, if any are taken.

    Raises:
        NotImplementedError: forward mode twice, or a derivative of `torch.func` in `torch.compile`.
    """
    result: Tensor
    if torch.compiler.is_compiling():
        if differentiates_by(matrix):
            raise NotImplementedError(COMPILED)
        result = traced_sign(matrix, *flatten(settings))
    elif not is_differentiated(matrix):
        result = _sign(matrix, settings)
    elif transforms().count(TransformType.Jvp) > 1:
        raise NotImplementedError(FORWARD_TWICE)
    else:
        result = apply(_Sign, matrix, settings)
    return result


def _sign(matrix: Tensor, settings: Settings) -> Tensor:
    if not is_traced(matrix):
        return sign(matrix, settings)
    traced: Tensor = traced_sign(matrix.detach(), *flatten(settings))
    return traced


class _Sign(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, settings: Settings) -> Tensor:
        return _sign(matrix, settings)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        matrix, settings = inputs
        ctx.damping = settings.damping
        ctx.save_for_backward(matrix)
        ctx.save_for_forward(matrix)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None]:
        (matrix,) = ctx.saved_tensors
        return derivative(matrix, by[0], ctx.damping), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (matrix,) = ctx.saved_tensors
        return derivative(matrix, tangents[0], ctx.damping)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    matrix, ctx.damping, *_ = inputs
    ctx.save_for_backward(matrix)


def _backward(ctx: Any, by: Tensor) -> tuple[Tensor | None, ...]:
    (matrix,) = ctx.saved_tensors
    return derivative(matrix, by, ctx.damping), *[None] * 6


traced_sign.register_autograd(_backward, setup_context=_setup_context)
