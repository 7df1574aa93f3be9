"""Optimizers by name: the built-in three, or any importable `torch.optim.Optimizer`."""

import ast
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from memsolve_kernels.errors import InputError
from torch.optim import Optimizer

from memsolve.optim.muon import Muon
from memsolve.optim.newton import Newton
from memsolve.problem import AssociativeMemory, Batch

Parameters = list[torch.nn.Parameter]
Build = Callable[[Parameters, AssociativeMemory, Batch], Optimizer]
"""Makes the optimizer of one run. Only second-order methods look at the memory and the batch."""

Optimizers = Sequence[str] | Mapping[str, Callable[[Parameters], Optimizer]]
"""What a study takes: names, or a label and a factory each (a class will do)."""


class UnknownOptimizerError(InputError):
    """A name that is neither built in nor an importable optimizer class."""


def _newton(params: Parameters, memory: AssociativeMemory, batch: Batch) -> Optimizer:
    return Newton(params, lambda: memory.curvature(batch))


def _first_order(make: Callable[[Parameters], Optimizer]) -> Build:
    return lambda params, memory, batch: make(params)


BUILT_IN: dict[str, Build] = {
    "sgd": _first_order(partial(torch.optim.SGD, lr=1.0)),
    "muon": _first_order(partial(Muon, lr=1.0, momentum=0.0)),
    "newton": _newton,
}


def resolve(optimizers: Optimizers) -> dict[str, Build]:
    """Builders by label, in the order given.

    A name is `sgd`, `muon`, `newton`, or a class path with keyword arguments after colons:
    `torch.optim.AdamW:lr=0.01:betas=(0.9, 0.95)`.

    Raises:
        UnknownOptimizerError: a name that does not import, is no optimizer, or repeats.
    """
    if isinstance(optimizers, Mapping):
        return {label: _first_order(make) for label, make in optimizers.items()}
    if isinstance(optimizers, str):
        raise UnknownOptimizerError(
            f"optimizers is the string {optimizers!r}; expected a list of names"
        )
    repeated = {name for name in optimizers if list(optimizers).count(name) > 1}
    if repeated:
        raise UnknownOptimizerError(f"optimizer {repeated.pop()!r} is named twice")
    return {name: BUILT_IN.get(name) or _imported(name) for name in optimizers}


def _imported(name: str) -> Build:
    path, *settings = name.split(":")
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        raise UnknownOptimizerError(
            f"optimizer {path!r} is unknown; expected one of {', '.join(BUILT_IN)}, or the path "
            "of a class, as in torch.optim.AdamW:lr=0.01"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UnknownOptimizerError(f"optimizer {path!r} does not import: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise UnknownOptimizerError(f"{path!r} is {found!r}; expected a torch.optim.Optimizer")
    make: Callable[[Parameters], Optimizer] = partial(
        found, **dict(_setting(name, setting) for setting in settings)
    )
    try:
        make([torch.nn.Parameter(torch.zeros(2, 2))])
    except Exception as error:
        raise UnknownOptimizerError(f"optimizer {name!r} cannot be made: {error}") from error
    return _first_order(make)


def _setting(name: str, setting: str) -> tuple[str, Any]:
    key, equals, value = setting.partition("=")
    if not (equals and key.isidentifier()):
        raise UnknownOptimizerError(
            f"{setting!r} in optimizer {name!r} is no setting; expected key=value, "
            "several separated by colons"
        )
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a plain word, as in adjust_lr_fn=match_rms_adamw
