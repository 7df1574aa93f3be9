"""What an optimizer minimises: the loss of a memory on the batch of the moment."""

from dataclasses import dataclass, field

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
    _zero: tuple[Batch, Tensor] | None = field(default=None, init=False, repr=False)

    def loss(self, weight: Tensor) -> Tensor:
        """Loss of `weight` (d, d), a scalar; differentiable twice."""
        return self.memory.loss(weight, self.batch)

    def gradient_at_zero(self) -> Tensor:
        """Gradient (d, d) at `W = 0`, computed once a batch: optimizers compared there share it."""
        if self._zero is None or self._zero[0] is not self.batch:
            self._zero = self.batch, self.memory.gradient_at_zero(self.batch)
        return self._zero[1].clone()

    def hvp(self, weight: Tensor, direction: Tensor) -> Tensor:
        """The Hessian of the loss at `weight` times `direction`, all (d, d)."""
        return self.memory.hvp(weight, direction, self.batch)

    def curvature(self, weight: Tensor | None = None) -> Curvature:
        """The factors of the Hessian at `W = 0`; given a `weight` (d, d), of one near it there."""
        return self.memory.curvature(self.batch, weight)
