"""Summaries whose lists do not agree in length: refused when read, in a line."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memsolve import InputError
from memsolve.checks import check_axes
from memsolve.engine import Summary
from memsolve.study import load
from tests.memsolve.report_cases import study

STUDIES = "capacity", "saturation", "precision", "dynamics", "critical-batch", "leaderboard"
RECORDS = Path(__file__).parents[2] / "bench/results"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each list, of lists in lists to the first and last ones."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from places(each, (*path, name))
    elif isinstance(value, list):
        yield path
        for at in {0, len(value) - 1} if value else ():
            yield from places(value[at], (*path, at))


def changed(point: dict[str, Any], path: tuple[Any, ...], how: str) -> dict[str, Any]:
    """A point with one list of another length."""
    found = copy.deepcopy(point)
    values: Any = found
    for step in path:
        values = values[step]
    if how == "shorter":
        values.pop()
    elif how == "longer":
        values.append(copy.deepcopy(values[-1]))
    else:
        values.clear()
    return found


@pytest.mark.parametrize("how", ["shorter", "longer", "empty"])
@pytest.mark.parametrize("name", STUDIES)
def test_lists_of_other_lengths_are_refused_or_shown(name: str, how: str) -> None:
    of, summary = study(name, 2)
    content = json.loads(json.dumps(summary.as_json()))
    refused = []
    point = content["fits"][0]["points"][0]
    for path in places(point):
        content["fits"][0]["points"][0] = changed(point, path, how)
        try:
            found = Summary.from_json(content, of.point)
        except InputError as error:
            refused.append(str(error))
        else:
            of.rows(found.fits)
            of.detail(found.fits[0].points[0])
            of.figures(found)
    assert refused
    assert all("entries along" in told and len(told.splitlines()) == 1 for told in refused)


@pytest.mark.parametrize("folder", sorted(path.parent for path in RECORDS.rglob("summary.json")))
def test_every_record_is_consistent(folder: Path) -> None:
    assert load(folder)[1].fits


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"a": ("T S", [[1, 2], [3, 4]]), "b": ("S", [5, 6]), "c": ("2", [7, 8])}, None),
        ({"a": ("T", [1, 2]), "law": ("T?", [])}, None),
        ({"marks": ("m", []), "margins": ("m 5", [])}, None),
        ({"a": ("T", [])}, "a has 0 entries along T; expected some"),
        ({"marks": ("m", [1]), "margins": ("m 5", [])}, "margins has 0 .* 1, as marks has"),
        ({"a": ("T", [1, 2]), "law": ("T?", [1])}, "law has 1 .* T; expected 2, as a has"),
        ({"a": ("T S", [[1, 2], [3]])}, "a has 1 .* S; expected 2, as a has"),
        ({"a": ("3", [1])}, "a has 1 entries along 3; expected 3$"),
    ],
)
def test_axes(arrays: dict[str, tuple[str, Any]], told: str | None) -> None:
    if told is None:
        check_axes(arrays)
    else:
        with pytest.raises(ValueError, match=told):
            check_axes(arrays)
