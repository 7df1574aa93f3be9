"""Parts of the description of an object. Their order counts in the digest."""

from dataclasses import dataclass
from typing import Any


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
