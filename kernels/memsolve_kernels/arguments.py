"""Conversion of arguments that may come in several types."""

import operator
from typing import Any

from memsolve_kernels.errors import RangeError


def parse_int(name: str, value: Any, minimum: int) -> int:
    """Convert an integer of any type, NumPy's included, to an int.

    Raises:
        RangeError: the value is not an integer, or is below the minimum.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise RangeError(f"{name} is {value!r}; expected an integer of at least {minimum}")
    return number
