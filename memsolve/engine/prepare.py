"""Before anything is measured: whether the device and every optimizer of a grid can be used."""

from dataclasses import replace
from typing import TypeVar

import torch
from memsolve_kernels.errors import DeviceError

from memsolve.engine.grid import Grid
from memsolve.engine.optimizers import resolve
from memsolve.engine.step import step_from_zero
from memsolve.objective import Objective
from memsolve.problem import AssociativeMemory, power_law
from memsolve.training import Build, StepError

AnyGrid = TypeVar("AnyGrid", bound=Grid)


def prepare(grid: AnyGrid) -> AnyGrid:
    """The grid with its device chosen, once all that it names has been seen to work.

    Every optimizer takes one step on a tiny memory, so that what cannot work is told before a
    study.

    Raises:
        InputError: a device or an optimizer that cannot be used, or frequencies that underflow.
    """
    for alpha in grid.alphas:
        power_law(grid.items_of(max(grid.dims)), alpha)
    grid = replace(grid, device=_usable(grid.device))
    check_steps(resolve(grid.choices), grid.device, getattr(torch, grid.dtype))
    return grid


def check_steps(builders: dict[str, Build], device: str, dtype: torch.dtype) -> None:
    """Take one step of each on a tiny memory.

    Raises:
        StepError: names the optimizer and what is wrong with it.
    """
    memory = AssociativeMemory(8, 4, 2.0, seed=0, device=device, dtype=dtype)
    objective = Objective(memory, memory.population())
    for label, build in builders.items():
        try:
            step_from_zero(objective, build)
        except StepError as error:
            raise StepError(f"optimizer {label!r} cannot be used: {error}") from error


def _usable(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # torch asserts where it lacks the backend
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error
    return device
