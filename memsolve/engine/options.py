"""Options of a command line, declared with the fields of a grid."""

import re
from dataclasses import field, fields
from typing import Any, NamedTuple

from memsolve_kernels.errors import RangeError


class Option(NamedTuple):
    """How a field of a grid is given on a command line.

    Attributes:
        flag: as "--dims".
        kind: of a value: `int`, `float` or `str`; `bool` for a flag without a value.
        help: one line for the command's help.
        many: whether it takes several values, separated by commas.
        in_cells: whether each cell carries its value, so that results of other values stay valid.
    """

    flag: str
    kind: type
    help: str
    many: bool = True
    in_cells: bool = False

    def parse(self, text: str | bool) -> Any:
        """The value of the field.

        Raises:
            RangeError: the text holds no such values.
        """
        if isinstance(text, bool):
            return text
        try:
            values = [self.kind(part) for part in split(text)]
        except ValueError as error:
            one = "a whole number" if self.kind is int else "a number"
            several = f"{one.removeprefix('a ')}s, separated by commas"
            expected = several if self.many else one
            raise RangeError(f"{self.flag} is {text!r}; expected {expected}") from error
        if not self.many and len(values) != 1:
            raise RangeError(f"{self.flag} is {text!r}; expected one value")
        return values if self.many else values[0]

    def format(self, value: Any) -> str | bool | None:
        """A value as a command line has it; None where the option is left out."""
        if self.kind is bool:
            return bool(value)
        if value is None:
            return None
        return (",".join(map(str, value)) if self.many else str(value)) or None

    def arguments(self, value: Any) -> list[str]:
        """The option with its value as arguments of a command; none for None."""
        text = self.format(value)
        if isinstance(text, bool):
            return [self.flag] if text else []
        return [] if text is None else [self.flag, text]


def option(
    default: Any,
    flag: str,
    kind: type,
    help: str,  # noqa: A002
    *,
    many: bool = True,
    in_cells: bool = False,
) -> Any:
    """A field of a grid with its option."""
    return field(default=default, metadata={"option": Option(flag, kind, help, many, in_cells)})


def options(grid: Any) -> list[tuple[str, Option]]:
    """Fields of a grid, or of a class of grids, with their options, in order.

    Raises:
        TypeError: a field without an option.
    """
    for each in fields(grid):
        if "option" not in each.metadata:
            raise TypeError(f"field {each.name!r} of a grid has no option; make it by `option`")
    return [(each.name, each.metadata["option"]) for each in fields(grid)]


def split(text: str) -> list[str]:
    """Parts between commas, except commas inside brackets: `adam:betas=(0.9,0.95),sgd`."""
    return [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", text) if part.strip()]
