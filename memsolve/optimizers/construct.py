"""Calling an optimizer's class or factory with the arguments that its signature names.

Packages agree on a few names, and on little else: `params`, the `model` whose parameters they are,
a base `optimizer` to wrap, and groups of parameters that hold `use_muon`.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from memsolve.faults import full_message
from memsolve.objective import Objective
from memsolve.training import Parameters

WRAPPED = ("optimizer", "base_optimizer", "base")
"""Names that wrappers have for the optimizer inside."""

GROUP = "use_muon"
"""The setting that some packages read from a group of parameters, not from the constructor."""

GROUP_ERROR = f"{GROUP}|__contains__|valid indices"
"""In an error: a group lacks the setting, or a parameter was used as a group."""

Make = Callable[..., Optimizer]


class MemoryModule(torch.nn.Module):
    """The memory as a module: one `weight` (d, d). A call returns the loss on the current batch."""

    def __init__(self, weight: torch.nn.Parameter, objective: Objective) -> None:
        super().__init__()
        self.weight = weight
        self._objective = objective

    def forward(self) -> Tensor:
        """The loss, a scalar."""
        return self._objective.loss(self.weight)


def construct(
    make: Make, params: Parameters, objective: Objective, settings: Mapping[str, Any]
) -> Optimizer:
    """Call a class of optimizers, or a factory.

    The first argument gets the parameters. If it is called `model`, it gets a `MemoryModule`; if it
    is called as one of `WRAPPED`, the optimizer of `settings`, constructed for the parameters.
    Later arguments called `params`, `model` or `objective` get what their name says; a later one
    of `WRAPPED` gets the class. If the call fails for want of groups, it is repeated with one group
    that holds `use_muon`: Muon is for matrices, and the weight is one.

    Args:
        make: the class or factory.
        params: one parameter (d, d).
        objective: to be minimized.
        settings: keyword arguments; `use_muon` goes into the group if it is no argument.

    Raises:
        TypeError: a wrapper without an optimizer to wrap.
        Exception: whatever `make` raises.
    """
    try:
        return _construct(make, params, objective, settings)
    except Exception as error:
        if GROUP in settings or not re.search(GROUP_ERROR, full_message(error)):
            raise
    return _construct(make, params, objective, {**settings, GROUP: True})


def _construct(
    make: Make, params: Parameters, objective: Objective, settings: Mapping[str, Any]
) -> Optimizer:
    names = argument_names(make)
    available: dict[str, Any] = {
        "model": MemoryModule(params[0], objective),
        "objective": objective,
    }
    arguments = {name: available[name] for name in names if name in available} | dict(settings)
    first = names[0] if names else "params"
    if first in WRAPPED:
        if first not in arguments:
            raise TypeError(f"it wraps an optimizer; name it, as {first}=torch.optim.AdamW")
        arguments[first] = construct(arguments[first], params, objective, {})
        return make(**arguments)
    parameters: Any = params
    if GROUP in arguments and GROUP not in names:
        parameters = [{"params": params, GROUP: arguments.pop(GROUP)}]
    if "params" in names:
        return make(**arguments, params=parameters)
    return make(**arguments) if first == "model" else make(parameters, **arguments)


def argument_names(make: Make) -> list[str]:
    """Names of the arguments; none if there is no signature."""
    try:
        return list(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return []
