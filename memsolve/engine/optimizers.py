"""Optimizers by name: the built-in three, or any importable `torch.optim.Optimizer`."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import STOCK, minimax
from torch.optim import Optimizer

from memsolve.engine.grid import OptimizerError, Optimizers, by_label
from memsolve.engine.sweep import literal
from memsolve.objective import Objective
from memsolve.optim import Muon, Newton
from memsolve.training import Build, Parameters


def resolve(optimizers: Optimizers) -> dict[str, Build]:
    """Builders by label, in the order given.

    A name is `sgd`, `muon`, `newton`, or a class path, with keyword arguments after colons:
    `torch.optim.AdamW:lr=0.01:betas=(0.9, 0.95)`, `newton:damping=0.1`, or
    `muon:schedule=muon:steps=5:dtype=bfloat16` (see `muon`).

    Raises:
        OptimizerError: no name, or one that does not import, is no optimizer, or repeats.
    """
    return {
        label: _named(choice) if isinstance(choice, str) else _first_order(choice)
        for label, choice in by_label(optimizers).items()
    }


def muon(
    params: Parameters,
    *,
    schedule: str | None = None,
    lower: float | None = None,
    steps: int | None = None,
    **settings: Any,
) -> Muon:
    """`Muon`, by default without momentum and at step size 1, its schedule spelled in words.

    Args:
        params: the parameters.
        schedule: name of a stock schedule, as in `memsolve_kernels.matrix_sign.STOCK`.
        lower: in place of a stock schedule, the minimax one that resolves singular values down
            to `lower` times the largest.
        steps: its first steps only, or its last one repeated.
        settings: of `Muon`.

    Raises:
        RangeError: an unknown schedule, or settings that exclude each other.
    """
    if "damping" in settings:
        raise RangeError(
            "damping is not a setting of muon here, since the units of a gradient differ from "
            "memory to memory; give relative_damping"
        )
    if schedule is not None and lower is not None:
        raise RangeError("schedule and lower exclude each other: lower makes a minimax schedule")
    if schedule is not None and schedule not in STOCK:
        raise RangeError(f"schedule is {schedule!r}; expected one of {sorted(STOCK)}")
    chosen = STOCK[schedule] if schedule is not None else None if lower is None else minimax(lower)
    if steps is not None:
        if chosen is None:
            raise RangeError("steps needs a schedule or lower to take the steps from")
        chosen = chosen.take(steps)
    return Muon(params, **{"lr": 1.0, "momentum": 0.0, **settings}, schedule=chosen)


def _first_order(make: Callable[[Parameters], Optimizer]) -> Build:
    return lambda params, objective: make(params)


def _newton(params: Parameters, objective: Objective, **settings: Any) -> Newton:
    return Newton(params, objective, **settings)


BUILT_IN: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=1.0),
    "muon": muon,
}


def _named(name: str) -> Build:
    path, settings = parse(name)
    if path == "newton":
        return partial(_newton, **settings)
    return _first_order(partial(BUILT_IN.get(path) or _imported(path), **settings))


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Path and settings of a name, as in `resolve`.

    Raises:
        OptimizerError: a part that is no setting.
    """
    path, *words = name.split(":")
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key.isidentifier()):
            raise OptimizerError(
                f"{word!r} in optimizer {name!r} is no setting; expected key=value, "
                "several separated by colons"
            )
        settings[key] = literal(key, value)
    return path, settings


def _imported(path: str) -> type[Optimizer]:
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        raise OptimizerError(
            f"optimizer {path!r} is unknown; expected sgd, muon, newton, or the path of a class, "
            "as in torch.optim.AdamW:lr=0.01"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # the module may fail in any way
        raise OptimizerError(f"optimizer {path!r} does not import: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise OptimizerError(f"{path!r} is {found!r}; expected a torch.optim.Optimizer")
    return found
