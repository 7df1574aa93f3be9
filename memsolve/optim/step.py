"""One step of any optimizer, from `W = 0`."""

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

from memsolve.optim.named import Build
from memsolve.problem import AssociativeMemory, Batch


class StepError(InputError):
    """An optimizer that failed in its step, or whose step is not finite."""


def step_from_zero(
    gradient: Tensor, build: Build, memory: AssociativeMemory, batch: Batch
) -> Tensor:
    """The weight (d, d) after one step from `W = 0` along `gradient` (d, d).

    Raises:
        StepError: the optimizer raised (its own error is the cause), or made NaN or infinity.
    """
    weight = torch.nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    try:
        build([weight], memory, batch).step()
    except Exception as error:
        raise StepError(f"its step failed: {error}") from error
    if not weight.isfinite().all():
        raise StepError("its step made NaN or infinity")
    return weight.detach()


def check_steps(builders: dict[str, Build], device: str, dtype: torch.dtype) -> None:
    """Take one step of each on a tiny memory, so that what cannot work is told before a study.

    Raises:
        StepError: names the optimizer and what is wrong with it.
    """
    memory = AssociativeMemory(8, 4, 2.0, seed=0, device=device, dtype=dtype)
    batch = memory.population()
    gradient = memory.gradient(torch.zeros_like(memory.output_covariance), batch)
    for label, build in builders.items():
        try:
            step_from_zero(gradient, build, memory, batch)
        except StepError as error:
            raise StepError(f"optimizer {label!r} cannot be used: {error}") from error
