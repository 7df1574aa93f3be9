"""Escape text from files and exceptions before a terminal or a page shows it."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


def escape_unprintable(text: str) -> str:
    """Replace white space by blanks, and escape other characters that `str.isprintable` rejects.

    Those are control characters (C0, DEL and C1), which move the cursor or set the title of a
    window; format characters (Cf), which reverse the reading direction or have no width; and
    surrogates.
    """
    return "".join(
        character
        if character.isprintable()
        else " "
        if character.isspace()
        else character.encode("unicode_escape").decode()
        for character in text
    )


def escape_all(value: T) -> T:
    """Escape every text in a value, for example in a summary."""
    escaped: T = _escape_all(value)
    return escaped


def _escape_all(value: Any) -> Any:
    if isinstance(value, str):
        return escape_unprintable(value)
    if isinstance(value, dict):
        return {_escape_all(key): _escape_all(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_escape_all(entry) for entry in value]
    if isinstance(value, tuple):
        entries = map(_escape_all, value)
        return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    if is_dataclass(value) and not isinstance(value, type):
        escaped = {each.name: _escape_all(getattr(value, each.name)) for each in fields(value)}
        return replace(value, **escaped)
    return value
