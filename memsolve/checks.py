"""Checks of plain values, such as the fields of a grid."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from memsolve_kernels.errors import RangeError


def is_int_between(value: object, least: int, bits: int = 62) -> bool:
    """Whether a value is a whole number from `least` to `2^bits`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    return least <= int(value) <= 1 << bits


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above zero."""
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


def check_axes(arrays: Mapping[str, tuple[str, Any]]) -> None:
    """Refuse nested lists whose lengths do not agree.

    Args:
        arrays: by name, the axes of a nested list, and the list. Axes are names, outermost first,
            as `"T S"`; all of one name have one length, which is 0 only where the name is in lower
            case. `"T?"` is a list along T that may be left empty. A number is a length.

    Raises:
        ValueError: names the first list of another length.
    """
    known: dict[str, tuple[int, str]] = {}
    for name, (axes, values) in arrays.items():
        for axis, length in _lengths(axes.split(), values):
            if axis.endswith("?") and not length:
                continue
            axis = axis.removesuffix("?")
            expected, of = (int(axis), "") if axis.isdigit() else known.get(axis, (length, ""))
            if length != expected or (not length and not axis.islower()):
                like = f", as {of} has" if of else ""
                raise ValueError(
                    f"{name} has {length} entries along {axis}; expected {expected or 'some'}{like}"
                )
            known.setdefault(axis, (length, name))


def _lengths(axes: Sequence[str], values: Any) -> Iterator[tuple[str, int]]:
    """Each axis with each length that a nested list has along it."""
    yield axes[0], len(values)
    for entry in values if axes[1:] else ():
        yield from _lengths(axes[1:], entry)
