"""A griffe extension: show the default of a grid's field, and not the call of `option`."""

from typing import Any

import griffe


class Options(griffe.Extension):
    """Replaces the value `option(default, flag, ...)` of an attribute by `default`."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **others: Any) -> None:
        """Called by griffe for every attribute."""
        value = attr.value
        if isinstance(value, griffe.ExprCall) and str(value.function) == "option":
            attr.value = value.arguments[0]
