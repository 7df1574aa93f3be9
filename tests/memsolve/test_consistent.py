"""Summaries with lists of different lengths are refused when they are loaded, in one line."""

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
from tests.memsolve.report_cases import STUDIES, study

RECORDS = Path(__file__).parents[2] / "bench/results"


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each list; in lists of lists, to the first and last ones."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from paths(each, (*path, name))
    elif isinstance(value, list):
        yield path
        for index in {0, len(value) - 1} if value else ():
            yield from paths(value[index], (*path, index))


def change_length(point: dict[str, Any], path: tuple[Any, ...], how: str) -> dict[str, Any]:
    """A point with one list of another length."""
    copied = copy.deepcopy(point)
    values: Any = copied
    for step in path:
        values = values[step]
    if how == "shorter":
        values.pop()
    elif how == "longer":
        values.append(copy.deepcopy(values[-1]))
    else:
        values.clear()
    return copied


@pytest.mark.parametrize("how", ["shorter", "longer", "empty"])
@pytest.mark.parametrize("name", STUDIES)
def test_lists_of_other_lengths_are_refused_or_shown(name: str, how: str) -> None:
    loaded, summary = study(name, 2)
    content = json.loads(json.dumps(summary.as_json()))
    refused = []
    point = content["fits"][0]["points"][0]
    for path in paths(point):
        content["fits"][0]["points"][0] = change_length(point, path, how)
        try:
            parsed = Summary.from_json(content, loaded.point)
        except InputError as error:
            refused.append(str(error))
        else:
            loaded.rows(parsed.fits)
            loaded.detail(parsed.fits[0].points[0])
            loaded.figures(parsed)
    assert refused
    assert all("entries along" in line and len(line.splitlines()) == 1 for line in refused)


@pytest.mark.parametrize("folder", sorted(path.parent for path in RECORDS.rglob("summary.json")))
def test_every_record_is_consistent(folder: Path) -> None:
    assert load(folder)[1].fits


@pytest.mark.parametrize(
    ("arrays", "message"),
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
def test_axes(arrays: dict[str, tuple[str, Any]], message: str | None) -> None:
    if message is None:
        check_axes(arrays)
    else:
        with pytest.raises(ValueError, match=message):
            check_axes(arrays)
