"""Checks of values, such as the fields of a grid."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from memsolve_kernels.errors import RangeError


def is_int_between(value: object, minimum: int, bits: int = 62) -> bool:
    """Whether a value is an integer from `minimum` to `2^bits`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    return minimum <= int(value) <= 1 << bits


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    return isinstance(value, float | int | np.floating) and 0 < float(value) < math.inf


def check_list(name: str, values: Any, expected: str, valid: Callable[[Any], bool]) -> None:
    """Raise RangeError unless `values` is a list of distinct valid values, and not empty."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
        raise RangeError(f"{name} is {values!r}; expected a list of {expected}")
    for value in values:
        if not valid(value):
            raise RangeError(f"{name} holds {value!r}; expected {expected}")
    if len(set(values)) < len(values):
        raise RangeError(f"{name} is {list(values)}; expected each value once")


def check_axes(arrays: Mapping[str, tuple[str, Any]]) -> None:
    """Check that the lengths of nested lists agree.

    Args:
        arrays: by name, the axes of a nested list, and the list. Axes are names, outermost first,
            as in `"T S"`. All axes of one name have one length, which is 0 only if the name is in
            lower case. A list along `"T?"` may be empty. A number is a length.

    Raises:
        ValueError: names the first list of another length.
    """
    lengths: dict[str, tuple[int, str]] = {}
    for name, (axes, values) in arrays.items():
        for axis, length in _axis_lengths(axes.split(), values):
            if axis.endswith("?") and not length:
                continue
            axis = axis.removesuffix("?")
            fixed = (int(axis), "") if axis.isdigit() else None
            expected, other = fixed or lengths.get(axis, (length, ""))
            if length != expected or (not length and not axis.islower()):
                reason = f", as {other} has" if other else ""
                raise ValueError(
                    f"{name} has {length} entries along {axis}; "
                    f"expected {expected or 'some'}{reason}"
                )
            lengths.setdefault(axis, (length, name))


def _axis_lengths(axes: Sequence[str], values: Any) -> Iterator[tuple[str, int]]:
    """Each axis with the length of every list along it."""
    yield axes[0], len(values)
    for entry in values if axes[1:] else ():
        yield from _axis_lengths(axes[1:], entry)
