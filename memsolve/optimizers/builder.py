"""Builders of optimizers: equal for equal choices, so that requirements are inferred once each."""

from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any, Self

import torch
from torch.optim import Optimizer

from memsolve.faults import format_repr
from memsolve.objective import Objective
from memsolve.optimizers.choices import OptimizerError
from memsolve.optimizers.construct import Make, argument_names, construct
from memsolve.optimizers.requirements import infer_requirements
from memsolve.training import OptimizerRequirements, Parameters


class ChoiceBuilder:
    """Builds the optimizer of a choice.

    Builders are equal if they call the same class or factory with the same settings. Partials, as
    a sweep makes them, compare by function and arguments.

    Args:
        make: a class of optimizers, or a factory.
        settings: its keyword arguments.
    """

    def __init__(self, make: Make, settings: Mapping[str, Any]) -> None:
        self._make, self._settings = make, dict(settings)
        self._key = _hashable(self._make), _hashable(self._settings)

    def __call__(self, params: Parameters, objective: Objective) -> Optimizer:
        """Build the optimizer; see `construct` for the arguments that it gets.

        Raises:
            OptimizerError: what was made is no optimizer.
            Exception: whatever the class or factory raises.
        """
        optimizer = construct(self._make, params, objective, self._settings)
        if not hasattr(optimizer, "step") or not hasattr(optimizer, "param_groups"):
            raise OptimizerError(f"made {format_repr(optimizer)}; expected a torch.optim.Optimizer")
        groups = optimizer.param_groups
        if not isinstance(groups, list | tuple):
            raise OptimizerError(
                f"its param_groups is {format_repr(groups)}; expected a list of groups"
            )
        return optimizer

    def requirements(self, device: torch.device, dtype: torch.dtype) -> OptimizerRequirements:
        """The requirements of the optimizer, inferred once in a process."""
        return infer_requirements(self, device, dtype)

    def with_lr(self, lr: float) -> Self | None:
        """The builder with another `lr`; None if the class or factory has no such argument."""
        takes_lr = "lr" in argument_names(self._make)
        return type(self)(self._make, {**self._settings, "lr": lr}) if takes_lr else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChoiceBuilder) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _hashable(value: Any) -> Hashable:
    """A key that equal values share; values without a hash share it with none but themselves."""
    if isinstance(value, partial):
        return partial, _hashable(value.func), _hashable(value.args), _hashable(value.keywords)
    if isinstance(value, list | tuple):
        return type(value), *map(_hashable, value)
    if isinstance(value, dict):
        return dict, *((name, _hashable(each)) for name, each in value.items())
    try:
        hash(value)
    except TypeError:
        return type(value), id(value)
    return type(value), value  # 1 and True are equal, and different settings
