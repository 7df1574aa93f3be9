"""The site of the leaderboard, made of records alone: `python -m memsolve.records.site`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from memsolve_kernels.errors import InputError

from memsolve import __version__
from memsolve.engine.results.estimate import Estimate, mean
from memsolve.engine.storage.folder import write
from memsolve.records.figures import pictures
from memsolve.records.record import read_records
from memsolve.records.tables import (
    Entry,
    TrackTable,
    core_hours,
    counts,
    make_entries,
    problem_rows,
    track_tables,
)
from memsolve.report.ownership import GENERATOR, refuse_foreign
from memsolve.study.formatting import format_estimate
from memsolve.study.leaderboard.grid import LeaderboardGrid
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.tracks import Problem, problem_order

INDEX = "index.html"
PAGES = "optimizers"


class RerunComparison(NamedTuple):
    """A problem as an entry claims it and as a sceptical result measured it.

    Attributes:
        problem: that both measured.
        claimed, rerun: items recovered, mean over seeds, as text.
        differs: whether neither mean is within the other's interval.
    """

    problem: Problem
    claimed: str
    rerun: str
    differs: bool


class TrackResult(NamedTuple):
    """The result of an entry on a track."""

    track: TrackTable
    rank: str
    ranked: int
    score: str


def write_site(records: Path, out: Path, board: LeaderboardGrid = leaderboard.grid) -> Path:
    """Write the site of a folder of records.

    Args:
        records: the folder.
        out: folder of the site; an `index.html` that memsolve did not write is left alone.
        board: the leaderboard that ranks entries, as in `tables.track_tables`.

    Returns:
        The path of the front page.

    Raises:
        InputError: no records, one that cannot be read, or a page that memsolve did not write.
    """
    entries = make_entries(read_records(records))
    tracks = track_tables(entries, board)
    pages = {
        f"{PAGES}/{entry.slug}.html": _render_entry(entry, entries, tracks) for entry in entries
    }
    pages[INDEX] = _environment().get_template("index.html.jinja").render(tracks=tracks)
    (out / PAGES).mkdir(parents=True, exist_ok=True)
    refuse_foreign(out, pages)
    for name, text in pages.items():
        write(out / name, text)
    return out / INDEX


def _render_entry(entry: Entry, entries: Sequence[Entry], tracks: Sequence[TrackTable]) -> str:
    figures = pictures(entry, [each for each in entries if each.record.kind == "entry"])
    by_hash = {each.record.sha256: each for each in entries}
    return (
        _environment()
        .get_template("optimizer.html.jinja")
        .render(
            entry=entry,
            record=entry.record,
            target=by_hash.get(entry.record.of),
            results=_results(entry, tracks),
            rows=problem_rows(entry),
            figures={
                caption: tuple(Markup(svg) for svg in both) for caption, both in figures.items()
            },
            reruns={each.slug: compare_rerun(entry, each) for each in entry.sceptical},
            sources={path: "\n".join(lines) for path, lines in entry.record.source.files.items()},
            core_hours=core_hours(entry),
        )
    )


def compare_rerun(entry: Entry, sceptical: Entry) -> list[RerunComparison]:
    """The problems that an entry and a sceptical result have in common."""
    claimed, rerun = counts(entry), counts(sceptical)
    result = []
    for problem in claimed.keys() & rerun.keys():
        first, second = mean(claimed[problem]), mean(rerun[problem])
        differs = not (_holds(first, second) or _holds(second, first))
        texts = format_estimate(first), format_estimate(second)
        result.append(RerunComparison(problem, *texts, differs))
    return sorted(result, key=lambda each: problem_order(each.problem))


def _holds(estimate: Estimate, other: Estimate) -> bool:
    """Whether the interval of an estimate holds the value of another one."""
    assert estimate.bar is not None
    assert other.value is not None
    _, low, high = estimate.bar
    return low <= other.value <= high


def _results(entry: Entry, tracks: Sequence[TrackTable]) -> list[TrackResult]:
    """The results of an entry on the tracks where it is listed."""
    return [
        TrackResult(track, row.rank, sum(bool(each.rank) for each in track.rows), row.score.text)
        for track in tracks
        for row in track.rows
        if row.slug == entry.slug
    ]


def _environment() -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("memsolve.records"), PackageLoader("memsolve.report")]),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"generator": GENERATOR, "version": __version__}
    return environment


def main(arguments: Sequence[str]) -> int:
    """Write the site of a folder of records into another folder; the exit status."""
    if len(arguments) != 2:
        print("usage: python -m memsolve.records.site RECORDS OUT", file=sys.stderr)
        return 2
    try:
        records, out = map(Path, arguments)
        page = write_site(records, out)
    except InputError as error:
        print(f"memsolve: error: {error}", file=sys.stderr)
        return 2
    print(f"site: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
