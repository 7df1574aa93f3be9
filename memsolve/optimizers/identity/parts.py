"""Parts of a description: what an object consists of, in an order that decides its digest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SET_BY_PYTHON = {
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__doc__", "__dict__", "__weakref__", "__module__", "__firstlineno__"),
    *("__static_attributes__", "__slotnames__", "_abc_impl"),
    *("__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__"),
    *("__path__", "__spec__", "__warningregistry__"),
}
"""Members of classes and modules that say where they were defined, or cache something."""


@dataclass(frozen=True)
class Value:
    """A value that the object holds or names; it is described in turn."""

    value: Any


@dataclass(frozen=True)
class Installed:
    """A name in an installed module."""

    module: str
    name: str


@dataclass(frozen=True)
class Definition:
    """The definition that the next parts belong to.

    Attributes:
        name: of the function, class or module.
        root: the folder that its module is imported from, which is left out of texts and paths.
    """

    name: str
    root: str | None


@dataclass(frozen=True)
class Refusal:
    """The object cannot be identified."""

    reason: str


Part = str | bytes | int | Value | Installed | Definition | Refusal


def member_parts(members: Mapping[str, Any]) -> list[Part]:
    """Members of a class, module or function, in the order of their names."""
    parts: list[Part] = []
    for name, value in sorted(members.items()):
        if name not in SET_BY_PYTHON:
            parts += ["member", name, Value(value)]
    return parts
