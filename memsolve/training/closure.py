"""Loss and gradient at the current weight: the closure of a training step."""

import math

import torch
from torch import Tensor

from memsolve.objective import Objective


class Closure:
    """Evaluates an objective at a weight and sets the weight's gradient.

    Gradients are exact and computed without autograd, unless they must carry a graph.

    Args:
        objective: the loss on the batch of the step.
        weight: (d, d); each call sets its `grad`.
        at_zero: the weight is zero until the step changes it; there the closed form is used.
        needs_graph: the gradient can be differentiated again.
    """

    def __init__(
        self, objective: Objective, weight: Tensor, *, at_zero: bool, needs_graph: bool
    ) -> None:
        self._objective, self._weight = objective, weight
        self._at_zero, self._needs_graph = at_zero, needs_graph
        self._dtype = objective.memory.output_covariance.dtype
        self._evaluated_at: Tensor | None = None

    def __call__(self) -> Tensor:
        """The loss, a scalar. Without a graph, nothing is computed twice at the same weight."""
        weight = self._weight
        if self._needs_graph:
            with torch.enable_grad():
                loss = self._objective.loss(weight.to(self._dtype))
                (weight.grad,) = torch.autograd.grad(loss, weight, create_graph=True)
            return loss
        if self._evaluated_at is None or not torch.equal(weight, self._evaluated_at):
            at_zero = self._at_zero and self._evaluated_at is None
            self._loss, self._gradient = self._evaluate_at_zero() if at_zero else self._evaluate()
            self._evaluated_at = weight.detach().clone()
        weight.grad = self._gradient.clone().to(weight.dtype)
        return self._loss

    def _evaluate_at_zero(self) -> tuple[Tensor, Tensor]:
        """Loss and gradient in closed form."""
        memory, batch = self._objective.memory, self._objective.batch
        return batch.weights.sum() * math.log(memory.num_items), self._objective.gradient_at_zero()

    @torch.no_grad()
    def _evaluate(self) -> tuple[Tensor, Tensor]:
        memory, batch = self._objective.memory, self._objective.batch
        return memory.loss_and_gradient(self._weight.detach().to(self._dtype), batch)
