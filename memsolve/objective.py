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

    def curvature(self) -> Curvature:
        """The factors of the Hessian at `W = 0`."""
        return self.memory.curvature(self.batch)
