"""Settings of optimizers to vary, and the values that words stand for."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from memsolve_kernels.errors import RangeError

from memsolve.checks import check_list

Sweep = Sequence[str] | Mapping[str, Sequence[object]]
"""Values by setting, or the words of a command line: `["lr=1e-3", "1e-2", "momentum=0", "0.9"]`."""


def parse_value(key: str, text: str) -> Any:
    """The value that a word stands for: a number, a tuple, a dtype, or the word itself."""
    named = getattr(torch, text.removeprefix("torch."), None)
    if key.endswith("dtype") and isinstance(named, torch.dtype):
        return named
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a plain word, as in adjust_lr_fn=match_rms_adamw


def to_words(sweep: Sweep) -> list[str]:
    """The sweep as a command line has it: a setting with its first value, then the others.

    Raises:
        RangeError: what is neither such words nor values by setting.
    """
    if isinstance(sweep, Mapping):
        found = []
        for key, values in sweep.items():
            check_list(f"sweep[{key!r}]", values, "values", lambda value: True)
            first, *others = map(str, values)
            found += [f"{key}={first}", *others]
        return found
    listed = isinstance(sweep, Sequence) and not isinstance(sweep, str)
    if not (listed and all(isinstance(word, str) for word in sweep)):
        raise RangeError(f"sweep is {sweep!r}; expected values by setting, as {{'lr': [0.1, 1]}}")
    if sweep and "=" not in sweep[0]:
        raise RangeError(f"sweep begins with {sweep[0]!r}; expected key=value, as lr=1e-3,1e-2")
    return list(sweep)


def parse_sweep(sweep: Sweep) -> dict[str, list[str]]:
    """The values of each setting.

    Raises:
        RangeError: a word without a setting, or one that repeats.
    """
    found: dict[str, list[str]] = {}
    for word in to_words(sweep):
        key, equals, value = word.partition("=")
        if equals:
            if not key.isidentifier() or key in found:
                raise RangeError(f"sweep has {word!r}; expected each setting once, as lr=1e-3,1e-2")
            found[key] = [value]
        else:
            found[list(found)[-1]].append(word)
    for key, values in found.items():
        check_list(f"sweep of {key}", values, "values", bool)
    return found
