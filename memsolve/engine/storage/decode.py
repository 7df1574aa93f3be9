"""Values of a class from the JSON that it was written as, every field of the type it declares."""

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
        reason: what was found and what was expected.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.where = ""
        self.reason = reason

    def inside(self, place: str) -> "MismatchError":
        """The same, seen from the object that holds the value at `place`."""
        self.where = place + self.where
        return self


def from_json(kind: type[T], fields: object) -> T:
    """An object of a dataclass, whose fields and theirs have the declared types.

    Fields that the class does not have are left out.

    Raises:
        ValueError: names the first field that has not, in a line.
    """
    try:
        value: T = converter(cast("Hashable", kind))(fields)
    except MismatchError as error:
        raise ValueError(f"{kind.__name__}{error.where}{error.reason}") from None
    return value


@cache
def converter(kind: Any) -> Convert:
    """How values of a type are read, worked out once for each type."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer is Any:
        return lambda found: found
    if outer is Literal:
        return _literal(kind, inner)
    if outer in (Union, UnionType):
        optional = type(None) in inner
        return _union(kind, tuple(map(converter, inner)), optional=optional)
    if outer is list:
        return _list(kind, inner[0] if inner else Any)
    if outer is tuple and inner[1:] == (...,):
        entries = _list(kind, inner[0])
        return lambda found: tuple(entries(found))
    if outer is dict:
        return _dict(kind, converter(inner[1]))
    if outer is float:
        return _float
    if is_dataclass(outer) or hasattr(outer, "_fields"):
        return _object(outer)
    return _exact(outer)


def _mismatch(kind: Any, found: object) -> MismatchError:
    return MismatchError(f" is {found!r}; expected {getattr(kind, '__name__', kind)}")


def _exact(kind: type) -> Convert:
    def convert(found: Any) -> Any:
        if type(found) is not kind:
            raise _mismatch(kind, found)
        return found

    return convert


def _float(found: Any) -> float:
    if type(found) not in (int, float):
        raise _mismatch(float, found)
    try:
        return float(found)
    except OverflowError:
        raise _mismatch(float, found) from None


def _literal(kind: Any, values: tuple[Any, ...]) -> Convert:
    def convert(found: Any) -> Any:
        if found not in values:
            raise _mismatch(kind, found)
        return found

    return convert


def _union(kind: Any, converters: tuple[Convert, ...], *, optional: bool) -> Convert:
    def convert(found: Any) -> Any:
        if found is None and optional:
            return None
        for each in converters:
            with suppress(MismatchError):
                return each(found)
        raise _mismatch(kind, found)

    return convert


def _list(kind: Any, entry: Any) -> Convert:
    convert_entry = converter(entry)

    def convert(found: Any) -> list[Any]:
        if type(found) is not list:
            raise _mismatch(kind, found)
        if entry in (int, float) and {entry}.issuperset(map(type, found)):
            return found.copy()  # most of what a results file holds
        try:
            return [convert_entry(value) for value in found]
        except MismatchError:
            raise _first(
                convert_entry, ((f"[{at}]", each) for at, each in enumerate(found))
            ) from None

    return convert


def _dict(kind: Any, entry: Convert) -> Convert:
    def convert(found: Any) -> dict[str, Any]:
        if type(found) is not dict:
            raise _mismatch(kind, found)
        try:
            return {name: entry(value) for name, value in found.items()}
        except MismatchError:
            places = ((f".{name}", value) for name, value in found.items())
            raise _first(entry, places) from None

    return convert


def _object(kind: Any) -> Convert:
    """Of a dataclass or a named tuple."""

    def convert(found: Any) -> Any:
        if not isinstance(found, Mapping):
            raise _mismatch(kind, found)
        known = {}
        for name, convert_field in _fields(kind).items():
            if name in found:
                try:
                    known[name] = convert_field(found[name])
                except MismatchError as error:
                    raise error.inside(f".{name}") from None
        try:
            return kind(**known)
        except (TypeError, ValueError) as error:
            raise MismatchError(f": {error}") from error

    return convert


@cache
def _fields(kind: Any) -> dict[str, Convert]:
    """How each field of a class is read; on first use, so that a class may hold itself."""
    return {name: converter(hint) for name, hint in get_type_hints(kind).items()}


def _first(convert: Convert, places: Iterable[tuple[str, Any]]) -> MismatchError:
    """The error of the first value, of those that lie at these places, that has one."""
    for place, value in places:
        try:
            convert(value)
        except MismatchError as error:
            return error.inside(place)
    raise AssertionError("every value is of the declared type")
