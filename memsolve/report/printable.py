"""Text from files and exceptions, made harmless for terminals and pages."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


def printable(text: str) -> str:
    """Text in which a terminal finds nothing to obey, and a reader nothing hidden.

    White space is a blank. What else `str.isprintable` denies is escaped as Python does it: control
    characters (C0, DEL and C1), which move the cursor or set the title of a window; characters of
    format (Cf), which reverse the reading direction or have no width; surrogates.
    """
    return "".join(
        character
        if character.isprintable()
        else " "
        if character.isspace()
        else character.encode("unicode_escape").decode()
        for character in text
    )


def readable(value: T) -> T:
    """The same value, a summary for example, with every text in it `printable`."""
    found: Any = value
    if isinstance(found, str):
        found = printable(found)
    elif isinstance(found, dict):
        found = {readable(name): readable(entry) for name, entry in found.items()}
    elif isinstance(found, list):
        found = [readable(entry) for entry in found]
    elif isinstance(found, tuple):
        entries = map(readable, found)
        found = type(found)(*entries) if hasattr(found, "_fields") else tuple(entries)
    elif is_dataclass(found) and not isinstance(found, type):
        found = replace(
            found, **{each.name: readable(getattr(found, each.name)) for each in fields(found)}
        )
    kept: T = found
    return kept
