"""The tables of the site: a ranking of records for each track, and the problems of each record."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from memsolve.engine import Fit, TableCell
from memsolve.engine.results.estimate import Estimate, mean
from memsolve.records.record import Record, rules_of
from memsolve.records.rerun import selected_candidate
from memsolve.report.escape import escape_all
from memsolve.report.formatting import format_number
from memsolve.report.names import shorten_names
from memsolve.study.formatting import format_estimate
from memsolve.study.leaderboard.conclusions import format_rank_ranges
from memsolve.study.leaderboard.grid import LeaderboardGrid
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import rank, ranked_tracks, scores, shares_of
from memsolve.study.leaderboard.references import is_saturated
from memsolve.study.leaderboard.tracks import TRACKS, Problem, problem_order

SECONDS_PER_HOUR, LEAST_HOURS = 3600.0, 0.01

OTHER_RULES = "measured by other rules, on other problems or with other seeds"
"""Why an entry has no rank among others."""

NONE_RANKED = "No entry was measured as the whole leaderboard is."
"""Below the table of a track without ranks."""

AXIS = 1.5
"""Length of the axis of scores, relative to the largest; wider intervals are cut."""


@dataclass(frozen=True)
class Entry:
    """A record on the site.

    Attributes:
        slug: name of its file and page, unique.
        record: of the entry.
        short_name: of the optimizer, unique among entries; with the file's name where another
            record has the same optimizer.
        fits: of the record, under the slug in place of the optimizer's name.
        sceptical: the sceptical results about it.
    """

    slug: str
    record: Record
    short_name: str
    fits: list[Fit[LeaderboardPoint]]
    sceptical: list["Entry"] = field(default_factory=list)


class Bar(NamedTuple):
    """A score with its interval, in percent of the axis."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """A row of a track's table.

    Attributes:
        slug, short_name, name: of the entry.
        rank: on the track; empty if it is not ranked.
        rank_range: ranks that the tests of all pairs do not exclude, as `1-12`.
        score: on the track, as text.
        bar: of the score; None without one.
        cells: items recovered on each problem of the track.
        state: reported or verified.
        sceptical: number of sceptical results.
        core_hours: processor time of all its runs.
    """

    slug: str
    short_name: str
    name: str
    rank: str
    rank_range: str
    score: TableCell
    bar: Bar | None
    cells: list[TableCell]
    state: str
    sceptical: int
    core_hours: TableCell


class TrackTable(NamedTuple):
    """The table of a track.

    Attributes:
        slug, name: of the track.
        words: what it measures.
        titles: of the columns.
        rows: ranked entries first, the best at the top.
        notes: below the table.
    """

    slug: str
    name: str
    words: str
    titles: list[str]
    rows: list[Row]
    notes: list[str]


class ProblemRow(NamedTuple):
    """A problem of a record.

    Attributes:
        problem: that was measured.
        setting: its coordinates without the track, as text.
        candidate: the selected one, as text.
        recovered: items, mean over seeds, as text.
        by_seed: the items of each seed.
        loss: after the last step, mean over seeds, as text.
        share: of `theory.limit`, as text.
        remarks: saturated, diverged, edge and the like.
    """

    problem: Problem
    setting: str
    candidate: str
    recovered: str
    by_seed: str
    loss: str
    share: str
    remarks: str


def make_entries(records: Mapping[str, Record]) -> list[Entry]:
    """Every record as an entry; sceptical results are also with the entry that they are about.

    Args:
        records: by slug.
    """
    names = _short_names(records)
    entries = {
        slug: Entry(
            slug,
            escape_all(record),
            names[slug],
            [replace(fit, optimizer=slug) for fit in escape_all(record.load_fits())],
        )
        for slug, record in records.items()
    }
    by_hash = {entry.record.sha256: entry for entry in entries.values()}
    for entry in entries.values():
        target = by_hash.get(entry.record.of)
        if entry.record.kind == "sceptical" and target and entry.record.name == target.record.name:
            target.sceptical.append(entry)
    return list(entries.values())


def track_tables(
    entries: Sequence[Entry], board: LeaderboardGrid = leaderboard.grid
) -> list[TrackTable]:
    """The table of every ranked track; sceptical results are not in it.

    Args:
        entries: to be shown.
        board: the leaderboard by whose rules, problems and seeds an entry must have been measured
            to have a rank; by default the whole one.
    """
    listed = [entry for entry in entries if entry.record.kind == "entry"]
    fits = [fit for entry in listed for fit in entry.fits]
    return [
        _track_table(listed, [each for each in listed if _is_ranked(each, track, board)], track)
        for track in ranked_tracks(fits)
    ]


def _is_ranked(entry: Entry, track: str, board: LeaderboardGrid) -> bool:
    """Whether an entry was measured on a track as a leaderboard measures."""
    problems = {problem for problem in board.problems if problem.track == track}
    seeds = [*board.seeds_shown]
    return (
        entry.record.rules == rules_of(board.as_json())
        and {problem for problem in counts(entry) if problem.track == track} == problems
        and all(point.seeds == seeds for fit in entry.fits for point in fit.points)
    )


def problem_rows(entry: Entry) -> list[ProblemRow]:
    """The problems of an entry, in the order of `tracks.problem_order`."""
    rows = [
        _problem_row(point, index, problem)
        for fit in entry.fits
        for point in fit.points
        for index, problem in enumerate(point.problems(fit.alpha))
    ]
    return sorted(rows, key=lambda row: problem_order(row.problem))


def counts(entry: Entry) -> dict[Problem, list[int]]:
    """Items recovered, by problem and seed."""
    return {
        problem: recovered
        for fit in entry.fits
        for point in fit.points
        for problem, recovered in zip(point.problems(fit.alpha), point.recovered, strict=True)
    }


def core_hours(entry: Entry) -> TableCell:
    """Processor time of all runs, in hours."""
    hours = entry.record.core_seconds / SECONDS_PER_HOUR
    return TableCell(f"{hours:.2f}" if hours >= LEAST_HOURS else f"< {LEAST_HOURS}", hours)


def _short_names(records: Mapping[str, Record]) -> dict[str, str]:
    """A short name for each slug: that of the optimizer, with the slug where it says no more."""
    short = shorten_names({escape_all(record.name) for record in records.values()})
    names = {slug: short[escape_all(record.name)] for slug, record in records.items()}
    times = Counter(names[slug] for slug, record in records.items() if record.kind == "entry")
    return {
        slug: name if record.kind == "entry" and times[name] == 1 else f"{name} ({slug})"
        for (slug, record), name in zip(records.items(), names.values(), strict=True)
    }


def _track_table(entries: Sequence[Entry], ranked: Sequence[Entry], track: str) -> TrackTable:
    """The table of a track, where the entries of `ranked` have a rank."""
    fits = [fit for entry in ranked for fit in entry.fits]
    ranges = format_rank_ranges(fits).get(track, {})
    names, problems, _ = shares_of(fits, track)
    others = [entry.slug for entry in entries if entry not in ranked]
    estimates = scores(fits, track) | dict.fromkeys(others, Estimate(None, note=OTHER_RULES))
    by_slug = {entry.slug: entry for entry in entries}
    measured = {slug: counts(by_slug[slug]) for slug in estimates}
    on_track = [slug for slug in estimates if any(key.track == track for key in measured[slug])]
    every = {problem for slug in on_track for problem in measured[slug]}
    shown = sorted((each for each in every if each.track == track), key=problem_order)
    largest = AXIS * max((each.value or 0.0 for each in estimates.values()), default=0.0)
    rows = [
        _row(
            by_slug[slug],
            estimates[slug],
            (rank(estimates, slug), ranges.get(slug, "")) if slug in names else ("", ""),
            [measured[slug].get(each) for each in shown],
            largest or 1.0,
        )
        for slug in on_track
    ]
    titles = ["optimizer", "rank", "score [95%]", "rank range", *map(format_setting, shown)]
    words = TRACKS[track].description
    notes = [f"{len(problems)} of {len(shown)} problems count." if names else NONE_RANKED]
    notes += [
        f"Saturated, does not count: {problem}." for problem in shown if is_saturated(problem)
    ]
    return TrackTable(
        track,
        track.replace("-", " "),
        f"{words[0].upper()}{words[1:]}.",
        [*titles, "state", "sceptical", "core hours"],
        rows,
        notes,
    )


def _row(
    entry: Entry,
    score: Estimate,
    place: tuple[str, str],
    recovered: Sequence[list[int] | None],
    largest: float,
) -> Row:
    bar = score.bar
    return Row(
        entry.slug,
        entry.short_name,
        entry.record.name,
        *place,
        TableCell(_format_score(score), score.value, score.note),
        None if bar is None else Bar(*(round(100 * min(end / largest, 1), 1) for end in bar)),
        [_count_cell(seeds) for seeds in recovered],
        entry.record.label,
        len(entry.sceptical),
        core_hours(entry),
    )


def _format_score(score: Estimate) -> str:
    """`0.45 [0.40, 0.50]`; the value alone where there is no interval."""
    if score.value is None:
        return ""
    return str(score) if score.low is not None else f"{score.value:.2f}"


def _count_cell(recovered: list[int] | None) -> TableCell:
    if recovered is None:
        return TableCell("")
    estimate = mean(recovered)
    return TableCell(format_estimate(estimate), estimate.value)


def format_setting(problem: Problem) -> str:
    """The setting of a problem in few letters: `alpha 1.5, d 32, B 64, 10 steps`."""
    batch = "" if problem.batch_size is None else f", B {problem.batch_size}"
    steps = f"{problem.steps} step{'s' if problem.steps > 1 else ''}"
    return f"alpha {problem.alpha:g}, d {problem.dim}{batch}, {steps}"


def _problem_row(point: LeaderboardPoint, index: int, problem: Problem) -> ProblemRow:
    recovered = mean(point.recovered[index])
    losses = [loss for loss in point.loss[index] if loss is not None]
    return ProblemRow(
        problem,
        str(problem),
        str(selected_candidate(point, index)),
        format_estimate(recovered),
        ", ".join(map(str, point.recovered[index])),
        format_number(sum(losses) / len(losses)) if losses else "not finite",
        "" if recovered.value is None else f"{recovered.value / problem.limit:.2f}",
        ", ".join(_remarks(point, index, problem)),
    )


def _remarks(point: LeaderboardPoint, index: int, problem: Problem) -> list[str]:
    return [
        *["saturated"] * is_saturated(problem),
        *["candidate at an edge"] * point.at_edge[index],
        *["not tuned"] * (point.candidates[index] == 1),
        *point.outcomes[index],
    ]
