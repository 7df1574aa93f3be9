"""What an optimizer minimises: the loss of a memory on the batch of the moment."""

from dataclasses import dataclass

from torch import Tensor

from memsolve.problem import AssociativeMemory, Batch, Curvature


@dataclass
class Objective:
    """The loss of one memory, on a batch that whoever trains replaces at every step.

    Attributes:
        memory: the facts.
        batch: those of this step, with their weights.
    """

    memory: AssociativeMemory
    batch: Batch

    def loss(self, weight: Tensor) -> Tensor:
        """Loss of `weight` (d, d), a scalar; differentiable twice."""
        return self.memory.loss(weight, self.batch)

    def hvp(self, weight: Tensor, direction: Tensor) -> Tensor:
        """The Hessian of the loss at `weight` times `direction`, all (d, d)."""
        return self.memory.hvp(weight, direction, self.batch)

    def curvature(self, weight: Tensor | None = None) -> Curvature:
        """The factors of the Hessian at `W = 0`; given a `weight` (d, d), of one near it there."""
        return self.memory.curvature(self.batch, weight)
