"""One step of any optimizer, from `W = 0`."""

from typing import NamedTuple

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

from memsolve.engine.optimizers import Build, Objective
from memsolve.problem import AssociativeMemory, Batch, Curvature


class StepError(InputError):
    """An optimizer that failed in its step, or whose step is not finite."""


class OnBatch(NamedTuple):
    """The loss of a memory on one batch, as an `Objective`."""

    memory: AssociativeMemory
    batch: Batch

    def curvature(self) -> Curvature:
        """The factors of the Hessian at `W = 0`."""
        return self.memory.curvature(self.batch)


def step_from_zero(gradient: Tensor, build: Build, objective: Objective) -> Tensor:
    """The weight (d, d) after one step from `W = 0` along `gradient` (d, d).

    Raises:
        StepError: the optimizer raised (its own error is the cause), or made NaN or infinity.
    """
    weight = torch.nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    try:
        build([weight], objective).step()
    except Exception as error:
        raise StepError(f"its step failed: {error}") from error
    if not weight.isfinite().all():
        raise StepError("its step made NaN or infinity")
    return weight.detach()
