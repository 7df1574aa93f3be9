"""What plain arguments of any type are worth."""

import operator
from typing import Any

from memsolve_kernels.errors import RangeError


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of any integer type, NumPy's too, as an int.

    Raises:
        RangeError: it is none, or below the least.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise RangeError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return number
