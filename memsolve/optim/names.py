"""How an error calls a parameter."""

from typing import Any


def name_of(group: dict[str, Any], at: int) -> str:
    """A parameter of a group: by its name, if the optimizer was given named parameters."""
    names = group.get("param_names")
    return f"parameter {names[at]!r}" if names else "a parameter"
