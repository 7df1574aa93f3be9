"""What values of a grid mean something."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from memsolve_kernels.errors import RangeError


def whole(value: object, least: int, bits: int = 62) -> bool:
    """Whether this is a whole number from `least` to `2^bits`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    return least <= int(value) <= 1 << bits


def positive(value: object) -> bool:
    """Whether this is a finite number above zero."""
    return isinstance(value, float | int | np.floating) and 0 < float(value) < math.inf


def check_list(name: str, values: Any, expected: str, valid: Callable[[Any], bool]) -> None:
    """Raise RangeError unless this is a list of different valid values, and not empty."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
        raise RangeError(f"{name} is {values!r}; expected a list of {expected}")
    for value in values:
        if not valid(value):
            raise RangeError(f"{name} holds {value!r}; expected {expected}")
    if len(set(values)) < len(values):
        raise RangeError(f"{name} is {list(values)}; expected each value once")
