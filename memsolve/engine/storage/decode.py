"""Values of a dataclass from JSON, with every field checked against its declared type."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

Convert = Callable[[Any], Any]
"""A value read from JSON as one of the declared type.

Raises:
    MismatchError: it is of another type.
"""


class MismatchError(ValueError):
    """A value of another type than the declared one.

    Attributes:
        where: path from the object to the value, such as `.points[3]`.
        reason: the value and the expected type.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.where = ""
        self.reason = reason

    def inside(self, place: str) -> "MismatchError":
        """The same error, with the path from the object that holds the value at `place`."""
        self.where = place + self.where
        return self


def from_json(kind: type[T], fields: object) -> T:
    """An object of a dataclass, its fields and nested fields checked against the declared types.

    Fields that the class does not declare are ignored.

    Raises:
        ValueError: names the first field of another type, in a line.
    """
    try:
        value: T = converter(cast("Hashable", kind))(fields)
    except MismatchError as error:
        raise ValueError(f"{kind.__name__}{error.where}{error.reason}") from None
    return value


@cache
def converter(kind: Any) -> Convert:
    """The converter of a type, built once for each type."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer is Any:
        return lambda value: value
    if outer is Literal:
        return _literal(kind, inner)
    if outer in (Union, UnionType):
        optional = type(None) in inner
        return _union(kind, tuple(map(converter, inner)), optional=optional)
    if outer is list:
        return _list(kind, inner[0] if inner else Any)
    if outer is tuple and inner[1:] == (...,):
        entries = _list(kind, inner[0])
        return lambda value: tuple(entries(value))
    if outer is dict:
        return _dict(kind, converter(inner[1]))
    if outer is float:
        return _float
    if is_dataclass(outer) or hasattr(outer, "_fields"):
        return _object(outer)
    return _exact(outer)


def _mismatch(kind: Any, value: object) -> MismatchError:
    return MismatchError(f" is {value!r}; expected {getattr(kind, '__name__', kind)}")


def _exact(kind: type) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise _mismatch(kind, value)
        return value

    return convert


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise _mismatch(float, value)
    try:
        return float(value)
    except OverflowError:
        raise _mismatch(float, value) from None


def _literal(kind: Any, values: tuple[Any, ...]) -> Convert:
    def convert(value: Any) -> Any:
        if value not in values:
            raise _mismatch(kind, value)
        return value

    return convert


def _union(kind: Any, converters: tuple[Convert, ...], *, optional: bool) -> Convert:
    def convert(value: Any) -> Any:
        if value is None and optional:
            return None
        for each in converters:
            with suppress(MismatchError):
                return each(value)
        raise _mismatch(kind, value)

    return convert


def _list(kind: Any, entry: Any) -> Convert:
    convert_entry = converter(entry)

    def convert(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _mismatch(kind, value)
        if entry in (int, float) and {entry}.issuperset(map(type, value)):
            return value.copy()  # most of a results file
        try:
            return [convert_entry(entry) for entry in value]
        except MismatchError:
            raise _first_mismatch(
                convert_entry, ((f"[{at}]", each) for at, each in enumerate(value))
            ) from None

    return convert


def _dict(kind: Any, convert_entry: Convert) -> Convert:
    def convert(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _mismatch(kind, value)
        try:
            return {name: convert_entry(each) for name, each in value.items()}
        except MismatchError:
            places = ((f".{name}", each) for name, each in value.items())
            raise _first_mismatch(convert_entry, places) from None

    return convert


def _object(kind: Any) -> Convert:
    """Of a dataclass or a named tuple."""

    def convert(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _mismatch(kind, value)
        fields = {}
        for name, convert_field in _fields(kind).items():
            if name in value:
                try:
                    fields[name] = convert_field(value[name])
                except MismatchError as error:
                    raise error.inside(f".{name}") from None
        try:
            return kind(**fields)
        except (TypeError, ValueError) as error:
            raise MismatchError(f": {error}") from error

    return convert


@cache
def _fields(kind: Any) -> dict[str, Convert]:
    """The converter of each field of a class; on first use, so that a class may refer to itself."""
    return {name: converter(hint) for name, hint in get_type_hints(kind).items()}


def _first_mismatch(convert: Convert, places: Iterable[tuple[str, Any]]) -> MismatchError:
    """The error of the first value that cannot be converted."""
    for place, value in places:
        try:
            convert(value)
        except MismatchError as error:
            return error.inside(place)
    raise AssertionError("every value is of the declared type")
