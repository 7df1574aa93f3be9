"""Values of a class from the JSON that it was written as, every field of the type it declares."""

import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

_adapter: Callable[[Any], TypeAdapter[Any]] = functools.cache(TypeAdapter)  # it takes milliseconds


def from_json(kind: type[T], fields: object) -> T:
    """An object of a dataclass, whose fields and theirs have the declared types.

    Raises:
        ValueError: names the first field that has not, in a line.
    """
    try:
        value: T = _adapter(kind).validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or kind.__name__
        raise ValueError(f"{where}: {first['msg']}") from error
    return value
