"""One step of any optimizer, from `W = 0`."""

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

from memsolve.engine.optimizers import Build
from memsolve.objective import Objective


class StepError(InputError):
    """An optimizer that failed in its step, or whose step is not finite."""


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
