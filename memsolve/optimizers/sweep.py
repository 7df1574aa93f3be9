"""Sweeps: settings of optimizers to vary, and parsing of their values."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from memsolve_kernels.errors import RangeError

from memsolve.checks import check_list

Sweep = Sequence[str] | Mapping[str, Sequence[object]]
"""Values by setting, or words as on a command line: `["lr=1e-3", "1e-2", "momentum=0", "0.9"]`."""


def parse_value(key: str, text: str) -> Any:
    """Parse a value: a number, a tuple, a dtype, or else the text itself."""
    dtype = getattr(torch, text.removeprefix("torch."), None)
    if key.endswith("dtype") and isinstance(dtype, torch.dtype):
        return dtype
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # as in adjust_lr_fn=match_rms_adamw


def to_words(sweep: Sweep) -> list[str]:
    """A sweep as words of a command line: a setting with its first value, then the others.

    Raises:
        RangeError: neither such words nor values by setting.
    """
    if isinstance(sweep, Mapping):
        words = []
        for key, values in sweep.items():
            check_list(f"sweep[{key!r}]", values, "values", lambda value: True)
            first, *others = map(str, values)
            words += [f"{key}={first}", *others]
        return words
    is_list = isinstance(sweep, Sequence) and not isinstance(sweep, str)
    if not (is_list and all(isinstance(word, str) for word in sweep)):
        raise RangeError(f"sweep is {sweep!r}; expected values by setting, as {{'lr': [0.1, 1]}}")
    if sweep and "=" not in sweep[0]:
        raise RangeError(f"sweep begins with {sweep[0]!r}; expected key=value, as lr=1e-3,1e-2")
    return list(sweep)


def parse_sweep(sweep: Sweep) -> dict[str, list[str]]:
    """The values of each setting, as text.

    Raises:
        RangeError: a value without a setting, or a setting that repeats.
    """
    values_of: dict[str, list[str]] = {}
    for word in to_words(sweep):
        key, equals, value = word.partition("=")
        if equals:
            if not key.isidentifier() or key in values_of:
                raise RangeError(f"sweep has {word!r}; expected each setting once, as lr=1e-3,1e-2")
            values_of[key] = [value]
        else:
            values_of[list(values_of)[-1]].append(word)
    for key, values in values_of.items():
        check_list(f"sweep of {key}", values, "values", bool)
    return values_of
