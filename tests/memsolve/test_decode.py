"""Objects from JSON, by the types that their fields declare."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, get_type_hints

import pytest

from memsolve.engine.storage import decode
from memsolve.engine.storage.decode import from_json


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


@dataclass(frozen=True)
class Tree:
    below: list["Tree"]


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
    ("change", "message"),
    [
        ({"count": 3.0}, "Outer.count is 3.0; expected int"),
        ({"count": True}, "Outer.count is True; expected int"),
        ({"kind": "c"}, "Outer.kind is 'c'"),
        ({"value": "x"}, "Outer.value is 'x'"),
        ({"value": 10**400}, "Outer.value is 1000"),
        ({"ends": [10**400]}, r"Outer.ends\[0\] is 1000.*; expected float"),
        ({"ends": [1, "x"]}, r"Outer.ends\[1\] is 'x'; expected float"),
        ({"inner": [{}]}, r"Outer.inner\[0\]: .*share"),
        ({"by_name": {"x": None}}, "Outer.by_name.x is None; expected int"),
        ({"pair": {"name": 1}}, "Outer.pair.name is 1; expected str"),
        ({"done": 1}, "Outer.done is 1; expected bool"),
    ],
)
def test_the_first_field_of_another_type_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Outer, as_json() | change)


def test_type_hints_are_resolved_once_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = []

    def counted(kind: type) -> dict[str, Any]:
        resolved.append(kind)
        return get_type_hints(kind)

    monkeypatch.setattr(decode, "get_type_hints", counted)
    for cached in (decode.converter, decode._fields):
        cached.cache_clear()
    for _ in range(10):
        from_json(Outer, as_json())
    assert sorted(kind.__name__ for kind in resolved) == ["Inner", "Outer", "Pair"]


def test_a_class_may_hold_itself() -> None:
    assert from_json(Tree, {"below": [{"below": []}]}) == Tree([Tree([])])
    with pytest.raises(ValueError, match=r"Tree.below\[0\].below is 3; expected list"):
        from_json(Tree, {"below": [{"below": 3}]})


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Outer is \[\]; expected Outer"):
        from_json(Outer, [])
