"""Reports of three, twelve and forty optimizers: figures, descriptions and the page."""

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from rich.console import Console
from rich.table import Table

from memsolve.engine import Summary, TableCell
from memsolve.engine.results.estimate import Estimate
from memsolve.engine.study import AnyStudy
from memsolve.report import terminal_tables, write_report
from memsolve.report.alt_text import describe
from memsolve.report.curves import labeled_curves, spread
from memsolve.report.drawing import (
    COLORS,
    DESKTOP_WIDTH,
    MARKERS,
    PHONE_WIDTH,
    curve_styles,
    figure_style,
)
from memsolve.report.names import MAX_LENGTH, shorten_names
from memsolve.report.table import columns, details, header, rows
from memsolve.study import leaderboard
from memsolve.study.leaderboard.grid import POPULAR
from tests.memsolve.report_cases import DIMS, STUDIES, names, study


@cache
def figures(name: str, count: int, page: float) -> dict[str, Figure]:
    """The figures of a study on a page of that many inches."""
    drawn, summary = study(name, count)
    with figure_style(page):
        return drawn.figures(summary)


def lay_out(figure: Figure) -> None:
    """Place the panels and the legend: half of the time that drawing takes."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)


def label_boxes(axes: Axes) -> list[Bbox]:
    """The boxes of the labels beside a panel, without their leaders."""
    boxes = []
    for text in axes.texts:
        text.get_window_extent()  # an annotation first moves to its place
        box = Text.get_window_extent(text)
        boxes.append(Bbox.from_extents(box.x0, box.y0 + 1, box.x1, box.y1 - 1))
    return boxes


def overlap(first: Bbox, second: Bbox) -> bool:
    """Whether two boxes share more than a pixel."""
    shared = Bbox.intersection(first, second)
    return shared is not None and min(shared.width, shared.height) > 1


def test_names_are_short_and_differ() -> None:
    full = names(40)
    short = shorten_names(full)
    assert list(short) == full
    assert max(map(len, short.values())) <= MAX_LENGTH
    assert len(set(short.values())) == 40
    assert short["sgd"] == "sgd"
    assert short["heavyball.ForeachSOAP"] == "ForeachSOAP"
    alike = [name for name in full if "betas" in name]
    assert [("0.95" in short[name], "0.99" in short[name]) for name in alike] == [
        (True, False),
        (False, True),
    ]


@given(st.lists(st.text("ab.:=", min_size=1, max_size=60), min_size=1, max_size=9, unique=True))
def test_no_two_names_are_shortened_to_one(full: list[str]) -> None:
    assert len(set(shorten_names(full).values())) == len(full)


def test_the_same_class_of_two_packages_keeps_its_path() -> None:
    assert shorten_names(["torch.optim.Muon", "timm.optim.Muon"]) == {
        "torch.optim.Muon": "torch.optim.Muon",
        "timm.optim.Muon": "timm.optim.Muon",
    }


def test_looks_do_not_repeat() -> None:
    count = len(COLORS) * len(MARKERS)
    assert count > 80
    assert max(Counter(curve_styles(map(str, range(count))).values()).values()) == 1


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=40), st.floats(0.001, 0.05))
def test_names_are_spread_in_their_order_and_no_more_than_needed(
    heights: list[float], gap: float
) -> None:
    targets = np.array(heights)
    spaced = spread(targets, gap)
    order = np.argsort(targets, kind="stable")
    assert (np.diff(spaced[order]) > gap - 1e-9).all()
    if gap * (len(targets) - 1) <= 1:
        assert spaced.min() > -1e-9
        assert spaced.max() < 1 + 1e-9
    if (np.diff(targets[order]) >= gap).all() and targets.min() >= 0 and targets.max() <= 1:
        assert spaced == pytest.approx(targets)


@pytest.mark.parametrize("page", [DESKTOP_WIDTH, PHONE_WIDTH])
@pytest.mark.parametrize(
    ("name", "count"), [("capacity", 3), ("capacity", 12), ("capacity", 40), ("dynamics", 12)]
)
def test_every_curve_has_a_label_and_no_label_covers_another(
    name: str, count: int, page: float
) -> None:
    figure = next(iter(figures(name, count, page).values()))
    lay_out(figure)
    for axes in figure.axes:
        assert len(labeled_curves(axes)) == len(axes.texts) == count
        boxes = label_boxes(axes)
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


@pytest.mark.parametrize(("page", "count"), [(DESKTOP_WIDTH, 9), (PHONE_WIDTH, 3)])
@pytest.mark.parametrize("name", STUDIES)
def test_panels_wrap_and_the_legend_covers_none(name: str, page: float, count: int) -> None:
    for figure in figures(name, count, page).values():
        lay_out(figure)
        assert figure.get_figwidth() <= page
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x1 <= figure.bbox.x1
        assert not any(overlap(box, axes.bbox) for axes in figure.axes)
        assert not any(axes.get_legend() for axes in figure.axes)
        entries = " ".join(text.get_text() for text in legend.get_texts())
        assert any(word in entries for word in ("seeds", "selected", "problems"))
        assert all(axes.get_xlabel() for axes in figure.axes[-figure_columns(figure) :])


def test_descriptions_of_figures_have_their_numbers() -> None:
    _, summary = study("capacity", 3)
    (text,) = map(describe, figures("capacity", 3, DESKTOP_WIDTH).values())
    assert text.startswith("recovered items against embedding dimension d. alpha = 1.5: sgd: ")
    for fit in summary.fits:
        first, last = (np.mean(fit.points[place].recovered) for place in (0, -1))
        ends = f"from {first:.3g} at {DIMS[0]} to {last:,.0f} at {DIMS[-1]}"
        assert f"{fit.optimizer}: {fit.estimate.value:.2f}, {ends}" in text
    assert "mean and 95% interval over seeds" in text
    for name in STUDIES:
        for figure in figures(name, 9, DESKTOP_WIDTH).values():
            assert re.search(r"\d", describe(figure))
            assert len(describe(figure)) < 3000


@pytest.mark.parametrize("name", ["capacity", "dynamics"])
def test_an_optimizer_without_recovered_items_is_named(name: str) -> None:
    drawn_study, summary = study(name, 3)
    first, *others = summary.fits
    zeros = [0, 0] if name == "capacity" else [[0, 0]] * 40
    empty = [replace(point, recovered=zeros) for point in first.points]
    drawn = drawn_study.figures(replace(summary, fits=[replace(first, points=empty), *others]))
    text = describe(next(iter(drawn.values())))
    assert "nothing above 0 to draw: sgd (alpha = 1.5" in text
    assert "muon" not in text.partition("nothing above 0")[2]


def test_a_figure_without_titles_is_described() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [3, 5000], label="mine")
    assert describe(figure) == "It shows: mine, from 3 at 1 to 5,000 at 2."


def test_cells_have_typed_keys_and_may_be_empty() -> None:
    scaling, summary = study("critical-batch", 3)
    fits = [summary.fits[0], replace(summary.fits[1], points=summary.fits[1].points[1:])]
    merged = replace(summary, fits=fits)  # of studies with other dims
    cells = columns(scaling, merged)
    assert list(cells)[:2] == ["optimizer", "alpha"]
    assert [cell.key for cell in cells["alpha"]] == [1.5, 1.5]
    full, missing = cells[f"d = {DIMS[0]}"]
    assert full.text == scaling.value(fits[0].points[0])
    assert full.details.startswith("target ")
    assert missing == TableCell("")
    values = [scaling.value(fit.points[-1]) for fit in fits]
    keys = [cell.key for cell in cells[f"d = {DIMS[-1]}"]]
    assert all(f"B_crit {key:.0f} /" in text for key, text in zip(keys, values, strict=True))
    assert details(scaling, merged)[f"d = {DIMS[0]}"] == [full.details, ""]
    assert scaling.figures(merged)


@pytest.mark.parametrize("name", STUDIES)
def test_every_column_of_a_study_can_be_sorted(name: str) -> None:
    """Numbers by their value, whatever the text says, and words by themselves."""
    sorted_study, summary = study(name, 3)
    fits = [replace(summary.fits[0], estimate=Estimate(None, note="not identified at d = 32"))]
    cells = columns(sorted_study, replace(summary, fits=[*fits, *summary.fits[1:]]))
    for title, column in cells.items():
        kinds = {type(cell.key) for cell in column if cell.key is not None}
        words = title in ("optimizer", "gradient")
        assert kinds <= {str} if words else kinds <= {int, float}, title
    if exponents := [column for title, column in cells.items() if title.startswith("exponent")]:
        assert exponents[0][0].key is None
    for dim, point in zip(DIMS, summary.fits[1].points, strict=True):
        assert cells[f"d = {dim}"][1].key == sorted_study.score(point)


def at_two_alphas(name: str, doubts: list[str]) -> tuple[AnyStudy, Summary[Any]]:
    """A study of six optimizers at two alphas, with doubts about their exponents."""
    made, summary = study(name, 6)
    estimates = [replace(fit.estimate, doubts=doubts[i % 2]) for i, fit in enumerate(summary.fits)]
    fits = [replace(fit, estimate=each) for fit, each in zip(summary.fits, estimates, strict=True)]
    return made, replace(summary, fits=[*fits, *(replace(fit, alpha=2.0) for fit in fits)])


def printed(name: str, width: int, doubts: list[str]) -> str:
    """The terminal's table of `at_two_alphas`, in a terminal of so many columns."""
    console = Console(width=width, force_terminal=True, no_color=True)
    with console.capture() as capture:
        for table in terminal_tables(*at_two_alphas(name, doubts), width):
            console.print(table)
    return re.sub(r"\x1b\[[\d;]*m", "", capture.get())


@pytest.mark.parametrize("width", [60, 80, 100, 10_000])
@pytest.mark.parametrize("name", STUDIES)
def test_the_terminal_breaks_no_word_and_cuts_no_value(name: str, width: int) -> None:
    doubts = ["two dimensions", "two dimensions, values below 10"]
    text = printed(name, width, doubts)
    printed_study, summary = at_two_alphas(name, doubts)
    assert max(map(len, text.splitlines())) <= width
    inside = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    words = {word.strip(",") for cells in inside for cell in cells[1:] for word in cell.split()}
    values = [printed_study.value(point) for fit in summary.fits for point in fit.points]
    texts = [*(text for row in rows(printed_study, summary) for text in row), *values]
    complete = {word.strip(",") for each in texts for word in each.split()}
    assert words <= complete
    if "d = 32, 64, 128" not in " ".join(text.split()).partition("in the report:")[2]:
        assert {word.strip(",") for value in values for word in value.split()} <= words
    if width > 1000:
        assert all(label in text for label in names(6))
        assert all(title in text for title in header(printed_study, summary))


@pytest.mark.parametrize("name", STUDIES)
def test_no_interval_is_broken_in_a_terminal_of_80_columns(name: str) -> None:
    """The table holds every column that it does not name as left to the report."""
    doubts = ["two dimensions", "two dimensions, values below 10"]
    text = printed(name, 80, doubts)
    printed_study, summary = at_two_alphas(name, doubts)
    assert max(map(len, text.splitlines())) <= 80
    for line in text.splitlines():
        for cell in line.split("│")[1:-1]:
            assert cell.count("[") == cell.count("]"), line
            assert not cell.strip().startswith("["), line
    flat = " ".join(text.split())
    left_out = flat.partition("in the report: ")[2]
    for title, cells in columns(printed_study, summary).items():
        intervals = {part for cell in cells for part in re.findall(r"\S+ \[[^]]*\]", cell.text)}
        if title not in left_out and "d = " not in title:
            assert all(interval in text for interval in intervals), title


def test_the_leaderboards_names_are_legible_in_a_terminal_of_80_columns() -> None:
    """Cut to 20 letters at least, they differ, and every table has all of them."""
    _, summary = study("leaderboard", len(POPULAR))
    fits = [replace(fit, optimizer=name) for fit, name in zip(summary.fits, POPULAR, strict=True)]
    *tables, caption = terminal_tables(leaderboard, replace(summary, fits=fits), 80)
    assert len(tables) > 1
    assert "rank (ranks that the tests of all pairs do not exclude)" in str(caption)
    for table in tables:
        assert isinstance(table, Table)
        shown = [str(cell) for cell in table.columns[0].cells]
        assert len(set(shown)) == len(POPULAR)
        assert {"ScheduleFreeAdamW", "NormalizedSGD", "AdamW (defaults)"} <= set(shown)
        assert min(len(name) for name in shown if "…" in name) >= 19
        assert table.columns[0].width == max(map(len, shown))


def test_doubts_that_all_rows_share_are_shown_once_below_the_table() -> None:
    shared, differ = (
        printed("capacity", 200, doubts)
        for doubts in (["two dimensions"] * 2, ["two dimensions", "values below 10"])
    )
    assert shared.count("two dimensions") == 1
    assert shared.splitlines()[-1].startswith("caveats in every row: two dimensions")
    assert differ.count("two dimensions") == differ.count("values below 10") == 6


class Page(HTMLParser):
    """The tags of a page."""

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
    finished = [study("capacity", 9), study("critical-batch", 3)]
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
    full_names = {summary["title"] for summary in page.all("summary") if "title" in summary}
    assert "schedulefree.AdamWScheduleFree" in full_names
    assert "sgd" not in full_names
    assert all("data-key" in cell for cell in page.all("td"))
    assert all(frame["tabindex"] == "0" for frame in page.all("div"))
    for word in ("prefers-color-scheme: dark", "viewport", "interval over seeds", "published"):
        assert word in text
