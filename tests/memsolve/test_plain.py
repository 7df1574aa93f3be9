"""Objects from JSON, by the types that their fields declare."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import pytest

from memsolve.engine.plain import from_json


class Pair(NamedTuple):
    name: str
    size: int = 1


@dataclass(frozen=True)
class Inner:
    share: float


@dataclass(frozen=True)
class Outer:
    count: int
    kind: Literal["a", "b"]
    value: float | None
    ends: tuple[float, ...]
    inner: list[Inner]
    by_name: dict[str, int]
    pair: Pair
    anything: Any = None
    done: bool = field(default=False)


GIVEN = Outer(3, "a", None, (1.0, 2.5), [Inner(0.5)], {"x": 1}, Pair("p"), [1, "any"], done=True)


def as_json() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(asdict(GIVEN) | {"pair": GIVEN.pair._asdict()}))
    return content


def test_what_was_written_comes_back_and_what_is_left_out_has_its_default() -> None:
    content = as_json()
    assert from_json(Outer, content) == GIVEN
    del content["done"], content["pair"]["size"]
    content |= {"unknown": 1, "value": 2}
    found = from_json(Outer, content)
    assert (found.done, found.pair.size, found.value) == (False, 1, 2.0)
    assert type(found.value) is float


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"count": 3.0}, "Outer.count is 3.0; expected int"),
        ({"count": True}, "Outer.count is True; expected int"),
        ({"kind": "c"}, "Outer.kind is 'c'"),
        ({"value": "x"}, "Outer.value is 'x'"),
        ({"ends": [1, "x"]}, r"Outer.ends\[1\] is 'x'; expected float"),
        ({"inner": [{}]}, r"Outer.inner\[0\]: .*share"),
        ({"by_name": {"x": None}}, "Outer.by_name.x is None; expected int"),
        ({"pair": {"name": 1}}, "Outer.pair.name is 1; expected str"),
        ({"done": 1}, "Outer.done is 1; expected bool"),
    ],
)
def test_the_first_field_of_another_type_is_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_json(Outer, as_json() | change)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Outer is \[\]; expected Outer"):
        from_json(Outer, [])
