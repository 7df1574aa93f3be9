"""The lines of a results file: JSON objects that end in a checksum of themselves."""

import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

fast_loads: Callable[[bytes], Any] = json.loads
with suppress(ImportError):  # a GPU's machine may lack it
    import orjson

    fast_loads = orjson.loads

CHECKSUM = b', "crc": "%08x"}'
"""Ends a line: CRC-32 of all bytes of the line before it, in hexadecimal."""

WIDTH = len(CHECKSUM % 0)


class Line(NamedTuple):
    """The content of a line.

    Attributes:
        fields: of its object.
        checked: whether it has a correct checksum; lines of version 0.2 have none.
    """

    fields: dict[str, Any]
    checked: bool


def to_line(fields: Mapping[str, Any]) -> str:
    """An object, which is not empty, as a line with its checksum."""
    body = json.dumps(fields).encode()[:-1]
    return (body + CHECKSUM % zlib.crc32(body) + b"\n").decode()


def from_line(raw: bytes) -> Line | None:
    """The content of a line; None if it is damaged: no JSON object, or a wrong checksum."""
    text = raw.strip()
    body, end = text[:-WIDTH], text[-WIDTH:]
    checked = end == CHECKSUM % zlib.crc32(body)
    try:
        fields = _loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or (not checked and "crc" in fields):
        return None
    return Line(fields, checked)


def _loads(text: bytes) -> Any:
    """The value of a JSON text, read several times as fast by orjson where that is installed.

    orjson refuses NaN, infinity and lone surrogates, which json reads. An integer beyond 64 bits,
    which no study measures, is a float to it, so that the types of a result call its line damaged.
    """
    try:
        return fast_loads(text)
    except ValueError:
        return json.loads(text.decode())
