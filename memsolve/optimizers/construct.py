"""Making an optimizer: its constructor, or a factory, is given what its arguments are called after.

Packages agree on the names, and on little else: `params`, the `model` whose parameters they are, a
base `optimizer` to wrap, and groups of parameters that say `use_muon`.
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
from memsolve.stepper import Parameters

WRAPPED = ("optimizer", "base_optimizer", "base")
"""What wrappers call the optimizer inside."""

GROUP = "use_muon"
"""The setting that packages ask for in a group of parameters, not in the constructor."""

TAKEN_FOR_A_GROUP = f"{GROUP}|__contains__|valid indices"
"""Of an error: a group without the setting, or a parameter that was asked for it."""

Make = Callable[..., Optimizer]


class Model(torch.nn.Module):
    """The memory as a module: one `weight` (d, d); called, the loss on the batch of the moment."""

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
    """The optimizer that a constructor or factory makes.

    The first argument gets the parameters, unless it asks for the model or for an optimizer to
    wrap: then that of `settings`, made of the parameters. Later arguments called `params`, `model`
    or `objective` get what they are called; a later one for an optimizer takes its class. What
    looks for groups in vain gets one with `use_muon`: a matrix is what Muon is for.

    Args:
        make: a class of optimizers, or what makes one.
        params: one (d, d).
        objective: what is minimised.
        settings: keyword arguments; `use_muon`, where it is none, goes into the group.

    Raises:
        TypeError: a wrapper that is not told what to wrap. And whatever `make` raises.
    """
    try:
        return _construct(make, params, objective, settings)
    except Exception as error:
        if GROUP in settings or not re.search(TAKEN_FOR_A_GROUP, full_message(error)):
            raise
    return _construct(make, params, objective, {**settings, GROUP: True})


def _construct(
    make: Make, params: Parameters, objective: Objective, settings: Mapping[str, Any]
) -> Optimizer:
    names = _arguments(make)
    handed: dict[str, Any] = {"model": Model(params[0], objective), "objective": objective}
    given = {name: handed[name] for name in names if name in handed} | dict(settings)
    first = names[0] if names else "params"
    if first in WRAPPED:
        if first not in given:
            raise TypeError(f"it wraps an optimizer; name it, as {first}=torch.optim.AdamW")
        given[first] = construct(given[first], params, objective, {})
        return make(**given)
    in_group = {GROUP: given.pop(GROUP)} if GROUP in given and GROUP not in names else {}
    parameters = [{"params": params, **in_group}] if in_group else params
    if "params" in names:
        return make(**given, params=parameters)
    return make(**given) if first == "model" else make(parameters, **given)


def _arguments(make: Make) -> list[str]:
    """Names of the arguments, none where they cannot be known."""
    try:
        return list(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return []
