"""Optimizers by name: the built-in three, or any importable `torch.optim.Optimizer`."""

import ast
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from memsolve_kernels.errors import InputError
from torch.optim import Optimizer

from memsolve.optim.inexact import inexact_muon
from memsolve.optim.newton import Newton
from memsolve.problem import AssociativeMemory, Batch

Parameters = list[torch.nn.Parameter]
Build = Callable[[Parameters, AssociativeMemory, Batch], Optimizer]
"""Makes the optimizer of one run. Only second-order methods look at the memory and the batch."""

Choice = str | Callable[[Parameters], Optimizer]
"""A name, or a factory; a class is one."""

Optimizers = Sequence[str] | Mapping[str, Choice]
"""What a study takes: names, or choices by label."""


class UnknownOptimizerError(InputError):
    """A name that is neither built in nor an importable optimizer class."""


def _newton(params: Parameters, memory: AssociativeMemory, batch: Batch, **keywords: Any) -> Newton:
    return Newton(params, lambda: memory.curvature(batch), **keywords)


def _first_order(make: Callable[[Parameters], Optimizer]) -> Build:
    return lambda params, memory, batch: make(params)


FIRST_ORDER: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=1.0),
    "muon": inexact_muon,
}


def resolve(optimizers: Optimizers) -> dict[str, Build]:
    """Builders by label, in the order given.

    A name is `sgd`, `muon`, `newton`, or a class path, with keyword arguments after colons:
    `torch.optim.AdamW:lr=0.01:betas=(0.9, 0.95)`, `newton:damping=0.1`, or
    `muon:schedule=muon:steps=5:dtype=bfloat16` (see `inexact_muon`).

    Raises:
        UnknownOptimizerError: no name, or one that does not import, is no optimizer, or repeats.
    """
    return {
        label: _named(choice) if isinstance(choice, str) else _first_order(choice)
        for label, choice in by_label(optimizers).items()
    }


def by_label(optimizers: Optimizers) -> dict[str, Choice]:
    """Choices by label; a name is its own label."""
    if not optimizers:
        raise UnknownOptimizerError("optimizers is empty; expected at least one, such as muon")
    if isinstance(optimizers, Mapping):
        for label, choice in optimizers.items():
            if not (isinstance(choice, str) or callable(choice)):
                raise UnknownOptimizerError(
                    f"optimizer {label!r} is {choice!r}; expected a name, a class, or a factory "
                    "that takes the parameters"
                )
        return dict(optimizers)
    if isinstance(optimizers, str):
        raise UnknownOptimizerError(
            f"optimizers is the string {optimizers!r}; expected a list of names"
        )
    for name in optimizers:
        if list(optimizers).count(name) > 1:
            raise UnknownOptimizerError(f"optimizer {name!r} is named twice")
    return {name: name for name in optimizers}


def split_name(name: str) -> tuple[str, dict[str, Any]]:
    """Path and keyword arguments of a name.

    Raises:
        UnknownOptimizerError: a setting that is not `key=value`.
    """
    path, *settings = name.split(":")
    keywords: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (equals and key.isidentifier()):
            raise UnknownOptimizerError(
                f"{setting!r} in optimizer {name!r} is no setting; expected key=value, "
                "several separated by colons"
            )
        keywords[key] = _value(key, value)
    return path, keywords


def _value(key: str, text: str) -> Any:
    if key.endswith("dtype") and isinstance(getattr(torch, text, None), torch.dtype):
        return getattr(torch, text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a plain word, as in adjust_lr_fn=match_rms_adamw


def _named(name: str) -> Build:
    path, keywords = split_name(name)
    if path == "newton":
        build: Build = partial(_newton, **keywords)
    else:
        build = _first_order(partial(FIRST_ORDER.get(path) or _imported(path), **keywords))
    return build


def _imported(path: str) -> type[Optimizer]:
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        raise UnknownOptimizerError(
            f"optimizer {path!r} is unknown; expected sgd, muon, newton, or the path of a class, "
            "as in torch.optim.AdamW:lr=0.01"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # the module may fail in any way
        raise UnknownOptimizerError(f"optimizer {path!r} does not import: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise UnknownOptimizerError(f"{path!r} is {found!r}; expected a torch.optim.Optimizer")
    return found
