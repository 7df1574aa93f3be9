"""The site of the leaderboard: its tables and pages, and what a browser makes of them."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from memsolve.records.record import read_record, read_records
from memsolve.records.site import main, write_site
from memsolve.records.submit import file_name, write_record
from memsolve.records.tables import NONE_RANKED, make_entries, problem_rows, track_tables
from memsolve.study.leaderboard.grid import LeaderboardGrid
from tests import browser
from tests.memsolve.record_cases import TINY, measure

BOARD = LeaderboardGrid(**TINY)
"""The leaderboard by whose rules entries are ranked here."""

OPTIMIZERS = "sgd", "muon", "torch.optim.SGD (defaults)"
HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of records: four entries, one of them measured in part, and a sceptical result."""
    folder = tmp_path_factory.mktemp("site")
    for record in measure(folder / "board", *OPTIMIZERS):
        write_record(record, folder / f"{file_name(record.name)}.json")
    (first,) = measure(folder / "part", "newton:lr=1", tracks=("one-step",))
    write_record(replace(first, author=HOSTILE), folder / "newton.json")
    (again,) = measure(folder / "again", "muon", first_seed=7, tracks=("one-step",))
    muon = read_record(folder / "muon.json")
    sceptical = replace(again, kind="sceptical", of=muon.sha256, claim="It recovers fewer.")
    write_record(sceptical, folder / "muon-sceptical.json")
    return folder


@pytest.fixture(scope="module")
def site(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site of the records."""
    return write_site(records, tmp_path_factory.mktemp("pages"), BOARD).parent


def entries_of(folder: Path) -> dict[str, Any]:
    return {entry.slug: entry for entry in make_entries(read_records(folder))}


def test_every_track_has_a_ranking_of_its_own(records: Path) -> None:
    entries = entries_of(records)
    tables = {table.slug: table for table in track_tables([*entries.values()], BOARD)}
    assert list(tables) == ["one-step", "full-gradient"]
    one = tables["one-step"]
    assert [row.rank for row in one.rows if row.rank][:1] == ["1"]
    assert {row.slug for row in one.rows} == entries.keys() - {"muon-sceptical"}
    assert {row.slug for row in tables["full-gradient"].rows} == {
        *map(file_name, OPTIMIZERS),
    }
    scores = [float(str(row.score.key)) for row in one.rows if row.rank]
    assert scores == sorted(scores, reverse=True)
    (muon,) = [row for row in one.rows if row.slug == "muon"]
    assert muon.sceptical == 1
    assert muon.bar is not None
    assert 0 <= muon.bar.low <= muon.bar.value <= muon.bar.high <= 100


def test_entries_of_other_rules_are_listed_without_a_rank_however_many_they_are(
    records: Path,
) -> None:
    entries = [*entries_of(records).values()]
    (sgd,) = [entry for entry in entries if entry.slug == "sgd"]
    other_seeds = [
        replace(fit, points=[replace(point, seeds=[8, 9]) for point in fit.points])
        for fit in sgd.fits
    ]
    changes: list[dict[str, Any]] = [
        {"record": replace(sgd.record, grid={**sgd.record.grid, name: value})}
        for name, value in (("anisotropy", 1.0), ("candidates", 600), ("tuning_seeds", 9))
    ]
    others = []
    for number, change in enumerate([*changes * 2, {"fits": other_seeds}]):
        slug = f"other-{number}"
        changed = replace(sgd, slug=slug, **change)
        fits = [replace(fit, optimizer=slug) for fit in changed.fits]
        others.append(replace(changed, fits=fits))
    before = {table.slug: table.rows for table in track_tables(entries, BOARD)}
    for table in track_tables([*others, *entries], BOARD):
        rows = [row for row in table.rows if row.slug.startswith("other")]
        assert len(rows) == 7
        for row in rows:
            assert (row.rank, row.rank_range) == ("", "")
            assert row.score.details.startswith("measured by other rules")
            assert row.cells
        assert [each for each in table.rows if each not in rows] == before[table.slug]


def test_the_whole_leaderboard_ranks_by_default(records: Path) -> None:
    for table in track_tables([*entries_of(records).values()]):
        assert not any(row.rank for row in table.rows)
        assert table.notes[0] == NONE_RANKED


def test_a_sceptical_result_of_another_optimizer_is_not_listed_beside_an_entry(
    records: Path,
) -> None:
    content = read_records(records)
    content["muon-sceptical"] = replace(content["muon-sceptical"], name="sgd")
    assert not any(entry.sceptical for entry in make_entries(content))


def test_problems_of_an_entry_have_their_candidates(records: Path) -> None:
    rows = problem_rows(entries_of(records)["sgd"])
    assert [row.problem.track for row in rows] == ["one-step", "full-gradient", "full-gradient"]
    assert all("learning rate " in row.candidate for row in rows)
    assert all(len(row.by_seed.split(", ")) == 2 for row in rows)


class Page(HTMLParser):
    """Addresses of a page, and whether its tags are balanced where they must be."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.scripts += tag == "script"
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag not in ("use", "image"):
            self.fetched += [values[name] or "" for name in ("src", "href") if name in values]


def test_pages_fetch_nothing_and_link_to_pages_that_exist(records: Path, site: Path) -> None:
    pages = [site / "index.html", *(site / "optimizers").iterdir()]
    assert len(pages) == 1 + len(list(records.glob("*.json")))
    for path in pages:
        page = Page()
        page.feed(path.read_text())
        assert page.fetched == []
        assert page.scripts == 1
        for link in page.links:
            target = link.partition("#")[0]
            assert not target or (path.parent / target).is_file(), link
    page_of_newton = (site / "optimizers" / "newton.html").read_text()
    assert "&lt;script&gt;alert(1)" in page_of_newton
    assert "\\u202e" in page_of_newton


def test_the_site_is_deterministic_and_overwrites_no_other_page(
    records: Path, site: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(records / "newton.json", tmp_path / "one")
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        assert main([str(tmp_path / "one"), str(folder)]) == 0
    for name in ("index.html", "optimizers/newton.html"):
        assert len({(folder / name).read_text() for folder in folders}) == 1
    (tmp_path / "a" / "index.html").write_text("<title>mine</title>")
    assert main([str(tmp_path / "one"), str(tmp_path / "a")]) == 2
    assert main([]) == 2


LOOK = """
<script>
addEventListener("load", () => setTimeout(() => {
  const shown = () => [...document.querySelectorAll("section[data-track]")].filter(
    (section) => !section.hidden).map((section) => [section.dataset.track,
    [...section.querySelectorAll("tbody tr")].filter((row) => !row.hidden).map(
      (row) => row.cells[0].dataset.key)]);
  const set = (name, value) => {
    const field = document.forms[0].elements[name];
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const click = (text) => [...document.querySelectorAll("thead button")].find(
    (button) => button.textContent === text).click();
  const result = { width: innerWidth, page: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor, address: location.hash };
  if (document.forms.length) {
    result.first = shown();
    set("track", "full-gradient");
    result.track = [shown(), location.hash];
    click("optimizer");
    result.sorted = [shown(), location.hash];
    click("optimizer");
    result.reversed = [shown(), location.hash];
    set("q", "SGD");
    result.matching = [shown(), location.hash];
    document.forms[0].reset();
    result.reset = [shown(), location.hash];
  } else {
    result.figures = [...document.querySelectorAll("figure svg")].map(
      (svg) => svg.getBoundingClientRect().width);
  }
  parent.postMessage(result, "*");
}, 300));
</script>
"""


def view(folder: Path, page: Path, width: int, *options: str, fragment: str = "") -> dict[str, Any]:
    """What a browser shows of a page, on a screen of that many pixels."""
    return browser.view(folder, page, LOOK, width, *options, fragment=fragment)


@browser.needs_browser
def test_the_front_page_sorts_filters_and_keeps_its_state_in_the_address(
    site: Path, tmp_path: Path
) -> None:
    page = site / "index.html"
    desk = view(tmp_path, page, 1280)
    assert [track for track, _ in desk["first"]] == ["one-step", "full-gradient"]
    ((track, names),) = desk["track"][0]
    assert (track, set(names)) == ("full-gradient", {"sgd", "muon", "SGD (defaults)"})
    assert desk["track"][1] == "#track=full-gradient"
    ((_, ascending),), ((_, descending),) = desk["sorted"][0], desk["reversed"][0]
    assert ascending == sorted(ascending, key=str.lower) == descending[::-1]
    assert desk["sorted"][1] == "#track=full-gradient&sort=optimizer&order=ascending"
    ((_, matching),) = desk["matching"][0]
    assert set(matching) == {"sgd", "SGD (defaults)"}
    assert desk["reset"] == [desk["first"], ""]
    again = view(tmp_path, page, 1280, fragment=desk["matching"][1].replace("&", "&amp;"))
    assert again["first"] == desk["matching"][0]
    assert desk["background"] == "rgb(255, 255, 255)"
    night = view(tmp_path, page, 320, "--blink-settings=preferredColorScheme=0")
    assert night["background"] == "rgb(22, 22, 22)"
    assert (night["width"], night["page"]) == (320, 320)  # only tables scroll sideways


@browser.needs_browser
@pytest.mark.parametrize("width", [320, 1280])
def test_an_optimizers_page_fits(site: Path, tmp_path: Path, width: int) -> None:
    shown = view(tmp_path, site / "optimizers" / "muon.html", width)
    assert shown["page"] <= width
    visible = [figure for figure in shown["figures"] if figure]
    assert len(visible) == len(shown["figures"]) // 2 == 2
    assert all(figure <= width for figure in visible)


def test_every_id_of_a_page_is_unique(site: Path) -> None:
    text = (site / "optimizers" / "muon.html").read_text()
    defined = re.findall(r' id="([^"]+)"', text)
    assert len(defined) == len(set(defined))
    assert set(re.findall(r"""(?:url\(|xlink:href=")#([^")]+)""", text)) <= set(defined)
