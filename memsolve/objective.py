"""The loss that an optimizer minimizes: that of a memory on the batch of the current step."""

from dataclasses import dataclass, field

from torch import Tensor

from memsolve.frequencies import Batch
from memsolve.problem import AssociativeMemory, Curvature


@dataclass
class Objective:
    """The loss of one memory on one batch, which a `Trainer` sets at every step.

    Attributes:
        memory: the facts.
        batch: items of the current step, with their weights.
    """

    memory: AssociativeMemory
    batch: Batch
    _at_zero: tuple[Batch, Tensor] | None = field(default=None, init=False, repr=False)

    def loss(self, weight: Tensor) -> Tensor:
        """Loss of `weight` (d, d), a scalar; differentiable twice."""
        return self.memory.loss(weight, self.batch)

    def gradient_at_zero(self) -> Tensor:
        """Gradient (d, d) at `W = 0`. It is computed once a batch, which optimizers share."""
        if self._at_zero is None or self._at_zero[0] is not self.batch:
            self._at_zero = self.batch, self.memory.gradient_at_zero(self.batch)
        return self._at_zero[1].clone()

    def hvp(self, weight: Tensor, direction: Tensor) -> Tensor:
        """The Hessian of the loss at `weight`, times `direction`; all (d, d)."""
        return self.memory.hvp(weight, direction, self.batch)

    def input_moment(self) -> Tensor:
        """Second moment (d, d) of the inputs of all items, each with the same weight."""
        return self.memory.input_moment

    def curvature(self, weight: Tensor | None = None) -> Curvature:
        """The factors of the Hessian at `W = 0`, or approximate ones at `weight` (d, d)."""
        return self.memory.curvature(self.batch, weight)
