"""Reports of three, twelve and forty optimizers: figures, words and the page's structure."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from rich.console import Console

from memsolve.report import terminal_table, write_report
from memsolve.report.alt import describe
from memsolve.report.curves import named, spread
from memsolve.report.drawing import COLORS, MARKERS, NARROW, STYLE, WIDE, looks
from memsolve.report.names import LONGEST, short
from memsolve.report.profile import performance_profile, ratios
from memsolve.report.table import columns, details, header, rows
from tests.memsolve.report_cases import DIMS, names, study

STUDIES = "capacity", "saturation", "precision", "dynamics", "critical-batch", "leaderboard"


def figures(name: str, count: int, page: float = WIDE) -> dict[str, Figure]:
    """The figures of a study on a page of so many inches."""
    found, summary = study(name, count)
    with mpl.rc_context(STYLE | {"figure.figsize": (page, 4.4)}):
        return found.figures(summary)


def letters(axes: Axes) -> list[Bbox]:
    """Where the names beside a panel stand, without what leads to them."""
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    return [Bbox.from_extents(box.x0, box.y0 + 1, box.x1, box.y1 - 1) for box in boxes]


def overlap(first: Bbox, second: Bbox) -> bool:
    """Whether two boxes share more than a pixel."""
    shared = Bbox.intersection(first, second)
    return shared is not None and min(shared.width, shared.height) > 1


def test_names_are_short_and_differ() -> None:
    given = names(40)
    found = short(given)
    assert list(found) == given
    assert max(map(len, found.values())) <= LONGEST
    assert len(set(found.values())) == 40
    assert found["sgd"] == "sgd"
    assert found["heavyball.ForeachSOAP"] == "ForeachSOAP"
    alike = [name for name in given if "betas" in name]
    assert [("0.95" in found[name], "0.99" in found[name]) for name in alike] == [
        (True, False),
        (False, True),
    ]


@given(st.lists(st.text("ab.:=", min_size=1, max_size=60), min_size=1, max_size=9, unique=True))
def test_no_two_names_are_shortened_to_one(given: list[str]) -> None:
    assert len(set(short(given).values())) == len(given)


def test_the_same_class_of_two_packages_keeps_its_path() -> None:
    assert short(["torch.optim.Muon", "timm.optim.Muon"]) == {
        "torch.optim.Muon": "torch.optim.Muon",
        "timm.optim.Muon": "timm.optim.Muon",
    }


def test_looks_do_not_repeat() -> None:
    count = len(COLORS) * len(MARKERS)
    assert count > 80
    assert max(Counter(looks(map(str, range(count))).values()).values()) == 1


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=40), st.floats(0.001, 0.05))
def test_names_are_spread_in_their_order_and_no_more_than_needed(
    heights: list[float], gap: float
) -> None:
    given = np.array(heights)
    found = spread(given, gap)
    order = np.argsort(given, kind="stable")
    assert (np.diff(found[order]) > gap - 1e-9).all()
    if gap * (len(given) - 1) <= 1:
        assert found.min() > -1e-9
        assert found.max() < 1 + 1e-9
    if (np.diff(given[order]) >= gap).all() and given.min() >= 0 and given.max() <= 1:
        assert found == pytest.approx(given)


@pytest.mark.parametrize("page", [WIDE, NARROW])
@pytest.mark.parametrize(
    ("name", "count"), [("capacity", 3), ("capacity", 12), ("capacity", 40), ("dynamics", 12)]
)
def test_every_curve_has_its_name_beside_it_and_none_covers_another(
    name: str, count: int, page: float
) -> None:
    figure = next(iter(figures(name, count, page).values()))
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert len(named(axes)) == len(axes.texts) == count
        boxes = letters(axes)
        assert not any(overlap(*pair) for pair in combinations(boxes, 2))
        assert not any(overlap(box, axes.bbox) for box in boxes)
        assert min(box.y0 for box in boxes) >= 0
        assert max(box.x1 for box in boxes) <= figure.bbox.x1 + 1
        assert axes.bbox.width > 0.35 * figure.bbox.width / figure_columns(figure)


def figure_columns(figure: Figure) -> int:
    """How many panels stand in a row."""
    spec = figure.axes[0].get_subplotspec()
    assert spec is not None
    return spec.get_gridspec().ncols


@pytest.mark.parametrize("page", [WIDE, NARROW])
@pytest.mark.parametrize("name", STUDIES)
def test_panels_wrap_and_the_key_covers_none(name: str, page: float) -> None:
    for figure in figures(name, 9, page).values():
        figure.draw_without_rendering()
        assert figure.get_figwidth() <= page
        (key,) = figure.legends
        box = key.get_window_extent()
        assert box.x1 <= figure.bbox.x1
        assert not any(overlap(box, axes.bbox) for axes in figure.axes)
        assert not any(axes.get_legend() for axes in figure.axes)
        said = " ".join(text.get_text() for text in key.get_texts())
        assert any(word in said for word in ("seeds", "selected", "problems"))
        assert all(axes.get_xlabel() for axes in figure.axes[-figure_columns(figure) :])


def test_figures_in_words_have_their_numbers() -> None:
    _, summary = study("capacity", 3)
    (words,) = map(describe, figures("capacity", 3).values())
    assert words.startswith("recovered items against embedding dimension d. alpha = 1.5: sgd: ")
    for fit in summary.fits:
        first, last = (np.mean(fit.points[place].recovered) for place in (0, -1))
        ends = f"from {first:.3g} at {DIMS[0]} to {last:,.0f} at {DIMS[-1]}"
        assert f"{fit.optimizer}: {fit.estimate.value:.2f}, {ends}" in words
    assert "mean and range over seeds" in words
    for name in STUDIES:
        for figure in figures(name, 12).values():
            assert re.search(r"\d", describe(figure))
            assert len(describe(figure)) < 3000


@pytest.mark.parametrize("name", ["capacity", "dynamics"])
def test_what_has_stored_nothing_is_named(name: str) -> None:
    found, summary = study(name, 3)
    lazy, *others = summary.fits
    none = [0, 0] if name == "capacity" else [[0, 0]] * 40
    nothing = [replace(point, recovered=none) for point in lazy.points]
    drawn = found.figures(replace(summary, fits=[replace(lazy, points=nothing), *others]))
    words = describe(next(iter(drawn.values())))
    assert "nothing above 0 to draw: sgd (alpha = 1.5" in words
    assert "muon" not in words.partition("nothing above 0")[2]


def test_a_plain_figure_is_described_too() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [3, 5000], label="mine")
    assert describe(figure) == "It shows: mine, from 3 at 1 to 5,000 at 2."


def test_the_table_is_sorted_by_numbers_and_knows_what_is_missing() -> None:
    found, summary = study("critical-batch", 3)
    fits = [summary.fits[0], replace(summary.fits[1], points=summary.fits[1].points[1:])]
    merged = replace(summary, fits=fits)  # of studies with other dims
    cells = columns(found, merged)
    assert list(cells)[:2] == ["optimizer", "alpha"]
    assert [cell.key for cell in cells["alpha"]] == [1.5, 1.5]
    whole, short_of_one = cells[f"d = {DIMS[0]}"]
    assert whole.text == found.value(fits[0].points[0])
    assert whole.more.startswith("target ")
    assert short_of_one == ("", None, "")
    values = [found.value(fit.points[-1]) for fit in fits]
    keys = [cell.key for cell in cells[f"d = {DIMS[-1]}"]]
    assert all(f"B_crit {key:.0f} /" in said for key, said in zip(keys, values, strict=True))
    assert details(found, merged)[f"d = {DIMS[0]}"] == [whole.more, ""]
    assert found.figures(merged)


def printed(name: str, width: int, doubts: list[str]) -> str:
    """The terminal's table of six optimizers at two alphas, in a terminal of so many columns."""
    found, summary = study(name, 6)
    said = [replace(fit.estimate, doubts=doubts[i % 2]) for i, fit in enumerate(summary.fits)]
    fits = [replace(fit, estimate=each) for fit, each in zip(summary.fits, said, strict=True)]
    two = [*fits, *(replace(fit, alpha=2.0) for fit in fits)]
    console = Console(width=width, force_terminal=True, no_color=True)
    with console.capture() as capture:
        console.print(terminal_table(found, replace(summary, fits=two), width))
    return re.sub(r"\x1b\[[\d;]*m", "", capture.get())


@pytest.mark.parametrize("width", [60, 80, 100, 10_000])
@pytest.mark.parametrize("name", STUDIES)
def test_the_terminal_breaks_no_word_and_cuts_no_value(name: str, width: int) -> None:
    text = printed(name, width, ["two dimensions", "two dimensions, values below 10"])
    found, summary = study(name, 6)
    assert max(map(len, text.splitlines())) <= width
    inside = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    words = {word.strip(",") for cells in inside for cell in cells[1:] for word in cell.split()}
    values = [found.value(point) for fit in summary.fits for point in fit.points]
    given = [*(text for row in rows(found, summary) for text in row), *values, "2"]
    given += ["two dimensions, values below 10"] * (name != "precision")  # it has no exponents
    known = {word.strip(",") for each in given for word in each.split()}
    assert words <= known
    assert {word.strip(",") for value in values for word in value.split()} <= words
    if width > 1000:
        assert all(label in text for label in names(6))
        assert all(title in text for title in header(found, summary))


def test_doubts_of_all_rows_stand_once_below_the_table() -> None:
    shared, differ = (
        printed("capacity", 200, doubts)
        for doubts in (["two dimensions"] * 2, ["two dimensions", "values below 10"])
    )
    assert shared.count("two dimensions") == 1
    assert shared.splitlines()[-1].startswith("to doubt in every row: two dimensions")
    assert differ.count("two dimensions") == differ.count("values below 10") == 6


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_has_what_a_reader_needs_and_fetches_nothing(tmp_path: Path) -> None:
    finished = [study("capacity", 12), study("critical-batch", 3)]
    text = write_report(finished, tmp_path).read_text()
    page = Page(text)
    assert len(page.all("img")) == len(page.all("source")) == len(list(tmp_path.glob("*.png"))) == 3
    assert all(len(image["alt"]) > 100 for image in page.all("img"))
    assert all(source["media"] == "(max-width: 640px)" for source in page.all("source"))
    assert all(tag["width"] and tag["height"] for tag in page.all("img") + page.all("source"))
    fetched = [image["src"] for image in page.all("img")]
    fetched += [source["srcset"] for source in page.all("source")]
    assert all(address.startswith("data:image/png;base64,") for address in fetched)
    assert not page.all("link")
    assert not any("src" in script for script in page.all("script"))
    assert not re.search(r"@import|url\(", text)

    titles = [head for head in page.all("th") if head["scope"] == "col"]
    assert len(titles) == len(page.all("button")) > 10
    assert all(title["aria-sort"] == "none" for title in titles)
    whole = {summary["title"] for summary in page.all("summary") if "title" in summary}
    assert "schedulefree.AdamWScheduleFree" in whole
    assert "sgd" not in whole
    assert all("data-key" in cell for cell in page.all("td"))
    assert all(frame["tabindex"] == "0" for frame in page.all("div"))
    for word in ("prefers-color-scheme: dark", "viewport", "interval over seeds", "published"):
        assert word in text


def test_a_profile_is_the_share_of_problems_within_a_factor_of_the_best() -> None:
    scores: dict[str, list[float | None]]
    scores = {"a": [10.0, 4.0, None, 0.0], "b": [5.0, 8.0, 3.0, 0.0], "c": [2.0, 8.0, np.nan, 0.0]}
    inf = float("inf")
    expected = {"a": [1, 2, inf, inf], "b": [2, 1, 1, inf], "c": [5, 1, inf, inf]}
    found = ratios(scores)
    assert {name: list(row) for name, row in found.items()} == expected
    with mpl.rc_context(STYLE):
        figure = performance_profile(scores, "items")
        figure.draw_without_rendering()
    drawn = {curve.name: curve for curve in named(figure.axes[0])}
    for name, worse in expected.items():
        for factor, share in zip(drawn[name].x, drawn[name].y, strict=True):
            assert share == np.mean(np.array(worse) <= factor)
    assert [drawn[name].y[0] for name in "abc"] == [0.25, 0.5, 0.25]
    assert "b, from 0.5 at 1 to 0.75 at 4" in describe(figure)


def test_a_profile_holds_twenty_optimizers() -> None:
    generator = np.random.default_rng(0)
    scores = {name: list(generator.uniform(1, 9, 6)) for name in names(20)}
    with mpl.rc_context(STYLE):
        figure = performance_profile(scores, "items")
        figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = letters(axes)
    assert len(boxes) == 20
    assert not any(overlap(*pair) for pair in combinations(boxes, 2))
