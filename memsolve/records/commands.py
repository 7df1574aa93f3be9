"""The commands `memsolve leaderboard submit` and `memsolve leaderboard verify`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from memsolve_kernels.errors import InputError

from memsolve.api import run as run_study
from memsolve.engine.execution.choose import open_executor
from memsolve.engine.options import options
from memsolve.engine.results.estimate import Estimate
from memsolve.output import terminal
from memsolve.records.record import GRID_OPTIONS, Record, read_record, read_records
from memsolve.records.submit import (
    Statement,
    check_statement,
    file_name,
    make_records,
    write_record,
)
from memsolve.records.tables import OTHER_RULES, make_entries, track_tables
from memsolve.records.verify import Report, mark_verified, verify_record
from memsolve.report.escape import escape_unprintable
from memsolve.study.leaderboard.grid import LeaderboardGrid
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.ranking import ranked_tracks, scores

RECORDS = Path("records")


def submit(
    optimizer: Annotated[
        str | None,
        typer.Argument(help="As in --optimizers: my_module:Mine, torch.optim.AdamW:lr=0.01, ..."),
    ] = None,
    finished: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of a finished leaderboard, instead of measuring."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the record's file, records/NAME.json.")
    ] = None,
    author: Annotated[str, typer.Option(help="Shown with the entry; any text.")] = "",
    claim: Annotated[str, typer.Option(help="What the entry shows, in one sentence.")] = "",
    of: Annotated[
        Path | None,
        typer.Option(
            help="Another record that this one reruns and does not confirm: a sceptical result."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the records.")] = RECORDS,
    jobs: Annotated[int, typer.Option(help="Processes that measure side by side.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted measurement.")
    ] = False,
    **texts: Any,
) -> None:
    """Measure an optimizer under the rules of the leaderboard, and write its record."""
    if (optimizer is None) == (finished is None):
        raise InputError("give the optimizer to measure, or a finished leaderboard by --from")
    if name is not None and file_name(name) != name:
        raise InputError(
            f"--name is {name!r}; expected letters, digits, dots and hyphens, as {file_name(name)}"
        )
    statement = Statement(author, claim, of)
    if optimizer is not None:
        check_statement(statement, [optimizer])  # before it is measured
    folder = finished or _measure(str(optimizer), texts, jobs, resume=resume)
    records = make_records(folder, statement)
    if name is not None and len(records) > 1:
        raise InputError(f"{folder} holds {len(records)} optimizers; leave out --name")
    suffix = "" if of is None else "-sceptical"
    paths = [out / f"{name or file_name(record.name) + suffix}.json" for record in records]
    for record, path in zip(records, paths, strict=True):
        write_record(record, path)
    ranks = _ranks(out)
    for record, path in zip(records, paths, strict=True):
        _print(f"record: {path}")
        for track, score in _scores(record).items():
            _print(f"  {track}: {score.format()}{ranks.get((path.stem, track), '')}")


def verify(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RECORD...", help="Files of records, records/NAME.json.")
    ],
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Run the source in the record, which is code of its author, where the source "
            "here is another one or none.",
        ),
    ] = False,
    all_problems: Annotated[
        bool, typer.Option("--all", help="Run all problems again, not only the smallest.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Label a reproduced record as verified.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Processes that measure side by side.")] = 1,
) -> None:
    """Check that a record was not edited, and run its smallest problems again."""
    reproduced = True
    for path in paths:
        reproduced &= _verify_one(path, trust=trust, every=all_problems, write=write, jobs=jobs)
    if not reproduced:
        raise typer.Exit(1)


def _measure(optimizer: str, texts: Mapping[str, Any], jobs: int, *, resume: bool) -> Path:
    """Run the leaderboard of one optimizer; the folder of its results."""
    grid = LeaderboardGrid.parse({**texts, "optimizers": optimizer})
    folder = Path("results", "submit", file_name(optimizer))
    with open_executor(jobs, None) as executor:
        run_study(leaderboard, grid, out=folder, resume=resume, executor=executor)
    _print(f"report: {folder / 'report.html'}")
    return folder


def _scores(record: Record) -> dict[str, Estimate]:
    """The score of a record on each track with a ranking."""
    fits = record.load_fits()
    return {track: scores(fits, track)[fits[0].optimizer] for track in ranked_tracks(fits)}


def _ranks(folder: Path) -> dict[tuple[str, str], str]:
    """The rank of every entry of a folder on each track, or why it has none, by file and track.

    Without those of any if one of the files cannot be read.
    """
    try:
        tables = track_tables(make_entries(read_records(folder)))
    except InputError as error:
        _print(f"without ranks: {error}")
        return {}
    ranks = {}
    for table in tables:
        count = sum(bool(row.rank) for row in table.rows)
        for row in table.rows:
            rank = f"rank {row.rank} of {count} in {folder}"
            ranks[row.slug, table.slug] = f", {rank if row.rank else f'no rank: {OTHER_RULES}'}"
    return ranks


def _verify_one(path: Path, *, trust: bool, every: bool, write: bool, jobs: int) -> bool:
    """Verify a record, and print the outcome; whether it was reproduced."""
    try:
        record = read_record(path)
        with open_executor(jobs, None) as executor:
            report = verify_record(record, trust=trust, every=every, executor=executor)
    except InputError as error:
        _print(f"{path}: not reproduced: {error}")
        return False
    _print(f"{path}: {record.name}, {record.label}")
    for line in report.lines():
        _print(line)
    if write and report.reproduced:
        _write_label(record, report, path)
    return report.reproduced


def _write_label(record: Record, report: Report, path: Path) -> None:
    date = datetime.now(UTC).date().isoformat()
    mark_verified(record, report, date, path)
    _print(f"{path}: verified on {date}")


def _print(line: str) -> None:
    with terminal() as console:
        console.print(escape_unprintable(line), soft_wrap=True, markup=False, highlight=False)


def grid_options() -> list[tuple[str, Any]]:
    """Fields of the grid that `submit` offers, with their options."""
    return [(name, each) for name, each in options(leaderboard.grid) if name in GRID_OPTIONS]
