"""Choices of optimizers: names, classes and factories, by label."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from memsolve_kernels.errors import InputError
from torch.optim import Optimizer

from memsolve.optimizers.sweep import parse_value

Choice = str | Callable[..., Optimizer]
"""A name, or a factory that takes the parameters; a class is one."""

Optimizers = Sequence[str] | Mapping[str, Choice]
"""The optimizers of a study: names, or choices by label."""


class OptimizerError(InputError):
    """A choice that is not an optimizer, or no choice at all."""


def by_label(optimizers: Optimizers) -> dict[str, Choice]:
    """Choices by label; a name is its own label.

    Raises:
        OptimizerError: no choice, a repeated name, or a choice that is neither name nor factory.
    """
    if isinstance(optimizers, str | bytes):
        raise OptimizerError(f"optimizers is the string {optimizers!r}; expected a list of names")
    if not isinstance(optimizers, Sequence | Mapping):
        raise OptimizerError(
            f"optimizers is {optimizers!r}; expected a list of names, or choices by label"
        )
    if not optimizers:
        raise OptimizerError("optimizers is empty; expected at least one, such as muon")
    if isinstance(optimizers, Mapping):
        for label, choice in optimizers.items():
            if not (isinstance(label, str) and (isinstance(choice, str) or callable(choice))):
                raise OptimizerError(
                    f"optimizer {label!r} is {choice!r}; expected a name, a class, or a factory "
                    "that takes the parameters, under a label"
                )
        return dict(optimizers)
    for name in optimizers:
        if not isinstance(name, str):
            raise OptimizerError(
                f"optimizers holds {name!r}; expected names; a class or a factory needs a label, "
                'as in {"mine": make}'
            )
        if list(optimizers).count(name) > 1:
            raise OptimizerError(f"optimizer {name!r} is named twice")
    return {name: name for name in optimizers}


def combine(choices: Mapping[str, Choice], swept: Mapping[str, Sequence[str]]) -> dict[str, Choice]:
    """Every choice with every combination of swept settings, each under its own label."""
    combined = dict(choices)
    for key, values in swept.items():
        combined = {
            f"{label}:{key}={value}": _with_setting(choice, key, value)
            for label, choice in combined.items()
            for value in values
        }
    return combined


def format_choice(choice: Choice) -> str:
    """A choice as text: its name, or the path of a class or factory."""
    if isinstance(choice, str):
        return choice
    if not hasattr(choice, "__qualname__"):
        return repr(choice)
    return f"{choice.__module__}.{choice.__qualname__}"


def _with_setting(choice: Choice, key: str, value: str) -> Choice:
    if isinstance(choice, str):
        return f"{choice}:{key}={value}"
    return partial(choice, **{key: parse_value(key, value)})
