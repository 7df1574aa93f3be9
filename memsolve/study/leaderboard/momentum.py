"""The momentum of any optimizer: `momentum`, or the first of `betas`, of its groups."""

from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from memsolve.objective import Objective
from memsolve.training import Builder, OptimizerRequirements, Parameters

NAMES = "momentum", "betas"
"""Settings of a group that hold a momentum: a number, or a sequence whose first number it is."""


def momentum_of(optimizer: Optimizer) -> float | None:
    """The momentum of the first group; None where it has none."""
    group = next(iter(optimizer.param_groups), {})
    values = (_first(group.get(name)) for name in NAMES)
    return next((value for value in values if value is not None), None)


def set_momentum(optimizer: Optimizer, momentum: float) -> None:
    """Set the momentum of every group that has one."""
    for group in optimizer.param_groups:
        name = next((name for name in NAMES if _first(group.get(name)) is not None), None)
        if name == "momentum":
            group[name] = momentum
        elif name is not None:
            group[name] = type(group[name])([momentum, *group[name][1:]])


@dataclass(frozen=True)
class MomentumBuilder:
    """Builds an optimizer, and sets its momentum.

    Attributes:
        build: builds the optimizer.
        momentum: None keeps its own.
    """

    build: Builder
    momentum: float | None

    def __call__(self, params: Parameters, objective: Objective) -> Optimizer:
        """Build the optimizer."""
        optimizer = self.build(params, objective)
        if self.momentum is not None:
            set_momentum(optimizer, self.momentum)
        return optimizer

    def requirements(self, device: torch.device, dtype: torch.dtype) -> OptimizerRequirements:
        """The requirements of the optimizer."""
        return self.build.requirements(device, dtype)


def _first(value: object) -> float | None:
    """A number, or the first of a list or tuple; None for anything else."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    if isinstance(first, bool) or not isinstance(first, int | float):
        return None
    return float(first)
