"""Optimizers by name: the built-in three, any importable class, or any factory."""

from functools import partial
from typing import Any

import torch
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import STOCK, minimax

from memsolve.faults import attribute_errors, format_repr
from memsolve.importing import import_named
from memsolve.optim import Muon, Newton
from memsolve.optimizers.builder import ChoiceBuilder
from memsolve.optimizers.choices import Choice, OptimizerError, Optimizers, by_label
from memsolve.optimizers.construct import WRAPPED, Make
from memsolve.optimizers.sweep import parse_value
from memsolve.training import Parameters


def resolve(optimizers: Optimizers) -> dict[str, ChoiceBuilder]:
    """Builders by label, in the order of the choices: see `builder`.

    Raises:
        OptimizerError: no choice, a repeated one, or one that does not import or is no optimizer.
    """
    return {label: builder(choice) for label, choice in by_label(optimizers).items()}


def builder(choice: Choice) -> ChoiceBuilder:
    """The builder of a choice.

    A name is `sgd`, `muon`, `newton`, the path of a class, or that of a factory,
    `module:function`, with keyword arguments after colons:
    `torch.optim.AdamW:lr=0.01:betas=(0.9, 0.95)`, `newton:damping=0.1`,
    `muon:schedule=muon:steps=5:dtype=bfloat16` (see `muon`), `my_module:make:lr=0.1`, or
    `timm.optim.Lookahead:base_optimizer=torch.optim.SGD`. See `construct` for the arguments that
    the class or factory gets.

    Raises:
        OptimizerError: a name that does not import, or is no optimizer.
    """
    make, settings = load_named(choice) if isinstance(choice, str) else (choice, {})
    return ChoiceBuilder(make, settings)


def muon(
    params: Parameters,
    *,
    schedule: str | None = None,
    lower: float | None = None,
    steps: int | None = None,
    **settings: Any,
) -> Muon:
    """`Muon`, by default without momentum and with lr 1; its schedule is chosen by name.

    Args:
        params: the parameters.
        schedule: name of a stock schedule, as in `memsolve_kernels.matrix_sign.STOCK`.
        lower: instead of a stock schedule, the minimax one that resolves singular values down to
            `lower` times the largest.
        steps: number of iterations; a longer schedule is cut, a shorter one repeats its last step.
        settings: further arguments of `Muon`.

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
    iteration = None
    if schedule is not None:
        iteration = STOCK[schedule]
    elif lower is not None:
        iteration = minimax(lower)
    if steps is not None:
        if iteration is None:
            raise RangeError("steps needs a schedule or lower to take the steps from")
        iteration = iteration.take(steps)
    return Muon(params, **{"lr": 1.0, "momentum": 0.0, **settings}, schedule=iteration)


BUILT_IN: dict[str, Make] = {
    "sgd": partial(torch.optim.SGD, lr=1.0),
    "muon": muon,
    "newton": Newton,
}


def load_named(name: str) -> tuple[Make, dict[str, Any]]:
    """The class or factory of a name, and its settings; a wrapped optimizer as its class.

    Raises:
        OptimizerError: a name that does not import, is no optimizer, or has no such settings.
    """
    path, settings = parse(name)
    for key in WRAPPED:
        if isinstance(settings.get(key), str):
            settings[key] = load_named(settings[key])[0]
    return BUILT_IN.get(path) or _load(path), settings


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Path and settings of a name, as in `builder`.

    Raises:
        OptimizerError: a part that is no setting.
    """
    path, *words = name.split(":")
    if words and words[0].isidentifier() and path not in BUILT_IN:
        path = f"{path}:{words.pop(0)}"
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key.isidentifier()) or key in settings:
            raise OptimizerError(
                f"{word!r} in optimizer {name!r} is no setting; expected key=value, each key "
                "once, several separated by colons"
            )
        settings[key] = parse_value(key, value)
    return path, settings


def _load(path: str) -> Make:
    """Import a class of optimizers, or a factory, by its path."""
    module, _, attribute = path.replace(":", ".").rpartition(".")
    if not module:
        raise OptimizerError(
            f"optimizer {path!r} is unknown; expected sgd, muon, newton, the path of a class, as "
            "in torch.optim.AdamW:lr=0.01, or that of a factory, as in my_module:make"
        )
    with attribute_errors(f"optimizer {path!r} does not import", OptimizerError):
        make: Make = getattr(import_named(module), attribute)
    if not callable(make) or (isinstance(make, type) and not hasattr(make, "step")):
        raise OptimizerError(
            f"{path!r} is {format_repr(make)}; expected a torch.optim.Optimizer, or a factory"
        )
    return make
