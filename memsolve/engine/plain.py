"""Values of a class from the JSON that it was written as, every field of the type it declares."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_json(kind: type[T], fields: object) -> T:
    """An object of a dataclass, whose fields and theirs have the declared types.

    Raises:
        ValueError: names the first field that has not, in a line.
    """
    value: T = _value(kind, fields, kind.__name__)
    return value


def _value(kind: Any, found: Any, where: str) -> Any:
    """What was found, as a type that has a form in JSON, or a class of fields of such types."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer is Any or (outer is Literal and found in inner):
        return found
    if outer in (Union, UnionType):
        for each in inner:
            with suppress(ValueError):
                return _value(each, found, where)
    elif outer is list and isinstance(found, list):
        return [_value(inner[0], each, f"{where}[{at}]") for at, each in enumerate(found)]
    elif outer is tuple and isinstance(found, list) and inner[1:] == (...,):
        return tuple(_value(inner[0], each, f"{where}[{at}]") for at, each in enumerate(found))
    elif outer is dict and isinstance(found, dict):
        return {name: _value(inner[1], each, f"{where}.{name}") for name, each in found.items()}
    elif outer is float and type(found) in (int, float):
        return float(found)
    elif isinstance(found, Mapping) and (is_dataclass(outer) or hasattr(outer, "_fields")):
        return _object(outer, found, where)
    elif type(found) is outer:
        return found
    raise ValueError(f"{where} is {found!r}; expected {getattr(kind, '__name__', kind)}")


def _object(kind: Any, found: Mapping[str, Any], where: str) -> Any:
    """An object of a dataclass or a named tuple; fields that it does not have are left out."""
    hints = get_type_hints(kind)
    known = {n: _value(hints[n], each, f"{where}.{n}") for n, each in found.items() if n in hints}
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
