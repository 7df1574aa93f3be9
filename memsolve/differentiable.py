"""The loss of a memory as a differentiable function of the weight, from its own derivatives."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from memsolve.frequencies import Batch
    from memsolve.problem import AssociativeMemory


def loss_of_parts(memory: "AssociativeMemory", weight: Tensor, batch: "Batch") -> Tensor:
    """The loss of `weight` (d, d), a scalar; differentiable twice in backward mode."""
    return _apply(_Loss, weight, memory, batch)


def _apply(function: type[Function], *inputs: Any) -> Tensor:
    result: Tensor = function.apply(*inputs)
    return result


class _Loss(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, memory: "AssociativeMemory", batch: "Batch") -> Tensor:
        loss, ctx.gradient = memory.loss_and_gradient(weight, batch)
        ctx.memory, ctx.batch = memory, batch
        ctx.save_for_backward(weight)
        return loss

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        gradient = _apply(_Gradient, weight, ctx.gradient, ctx.memory, ctx.batch)
        return by[0] * gradient, None, None


class _Gradient(Function):
    """The gradient, which is known; its derivative is the Hessian."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, gradient: Tensor, memory: "AssociativeMemory", batch: "Batch"
    ) -> Tensor:
        ctx.memory, ctx.batch = memory, batch
        ctx.save_for_backward(weight)
        return gradient.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return ctx.memory.hvp(weight, by[0], ctx.batch), None, None, None
