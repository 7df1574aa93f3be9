"""The command `memsolve`."""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from memsolve_kernels.errors import InputError
from rich.text import Text

from memsolve import __version__
from memsolve.api import run as run_study
from memsolve.engine.extend import grid_like
from memsolve.engine.grid import Grid
from memsolve.engine.measure import format_unfinished
from memsolve.engine.options import options, split
from memsolve.engine.results.load import load_summary
from memsolve.engine.results.merge import Finished, merge
from memsolve.engine.run import run as run_without_report
from memsolve.engine.study import AnyStudy
from memsolve.faults import MachineError
from memsolve.importing import FOLDER
from memsolve.output import terminal
from memsolve.report import notes, terminal_table, write_report
from memsolve.report.ownership import refuse_foreign
from memsolve.report.page import REPORT
from memsolve.report.printable import printable
from memsolve.report.terminal import UNBOUNDED
from memsolve.study import find, load, studies

Out = Annotated[
    Path | None,
    typer.Option(help="Folder for cells, summary.json, figures, report.html.", show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what is in --out.")]
Add = Annotated[
    str | None,
    typer.Option(help="Optimizers to measure as a finished study was, and to show in its table."),
]
To = Annotated[Path | None, typer.Option(help="The finished study of --add.", show_default=False)]
SkipFailing = Annotated[
    bool, typer.Option("--skip-failing", help="Leave out optimizers that cannot be used.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        help="Seconds for a cell; one that takes longer has failed.",
        show_default=False,
    ),
]
COMMON: list[tuple[str, Any, Any]] = [
    ("add", None, Add),
    ("to", None, To),
    ("resume", False, Resume),
    ("skip_failing", False, SkipFailing),
    ("time_limit", None, TimeLimit),
]
"""Options of every study after those of its grid: name, default and annotation."""


def commands(words: list[str]) -> typer.Typer:
    """The command line: every study, and the one that its first word names by its path."""
    app = typer.Typer(add_completion=False, no_args_is_help=True)
    app.callback()(_main)
    for study in studies():
        _add_command(app, study)
    if words and "." in words[0]:
        _add_command(app, find(words[0]))
    app.command("report")(report)
    return app


def _add_command(app: typer.Typer, study: AnyStudy) -> None:
    """A study's command: the options of its grid, and where its results go."""

    def command(out: Path | None, add: str | None, to: Path | None, **others: Any) -> None:
        how = {name: others.pop(name) for name in ("resume", "skip_failing", "time_limit")}
        if add is None and to is not None:
            raise InputError("--to is the finished study of --add; give both, or none")
        if add is None:
            folder = out or Path("results", study.name)
            summary = run_study(study, type(study.grid).parse(others), out=folder, **how)
            _print([(study, summary)], folder / REPORT)
        else:
            folder, finished = out or Path("results", f"{study.name}-added"), to or study.record
            if finished is None:
                raise InputError("--add needs a finished study to be shown with: --to FOLDER")
            if folder.resolve() == finished.resolve():
                raise InputError(f"--out and --to are both {folder}; expected another folder")
            grid = grid_like(study, finished, split(add), others)
            refuse_foreign(folder, [REPORT])
            summary = run_without_report(study, grid, folder, **how)
            recorded = finished, study, load_summary(study, finished)
            merged = merge([recorded, (folder, study, summary)])
            _print(merged, write_report(merged, folder))
        if machine := [failure for failure in summary.failed if failure.machine]:
            raise MachineError(format_unfinished(study.name, machine))

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, default, annotation in [("out", None, Out), *_options(study.grid), *COMMON]
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    app.command(study.name, help=study.question)(command)


def _options(grid: Grid) -> Iterator[tuple[str, str | None, Any]]:
    """Name, default and annotation of the options of a grid."""
    for name, option in options(grid):
        text = Annotated[str | None, typer.Option(option.flag, help=option.help)]
        yield name, option.format(getattr(grid, name)), text


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished studies.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures and report.html.")],
    study: Annotated[
        list[str],
        typer.Option(help="A study of your own, as my_module.mine, that is in a folder."),
    ] = [],  # noqa: B006 - typer copies it
) -> None:
    """One report of several finished studies; those of one kind share a ranked table."""
    own = [find(name) for name in study]
    merged = merge([(folder, *load(folder, own)) for folder in folders])
    _print(merged, write_report(merged, out))


def run_command(words: list[str]) -> int:
    """Run the command line; the exit status. What a person can mend is told on stderr, with 2."""
    with suppress(OSError):  # of a current folder that is gone
        FOLDER.set(os.getcwd())
    # The base of typer's usage errors has no name of its own in every release of typer.
    usage_error = cast("type[Exception]", typer.BadParameter.__base__)
    try:
        return int(commands(words)(words, standalone_mode=False) or 0)
    except InputError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, OverflowError, RecursionError) as error:
        return _fail(f"{type(error).__name__}: {error}")
    except usage_error as error:
        return _fail(cast("Any", error).format_message())
    except typer.Abort:
        raise KeyboardInterrupt from None


def _fail(message: str) -> int:
    """Tell what is wrong: in a line, or where there are several things, a line each."""
    lines = [printable(" ".join(line.split())) for line in message.split("\n")]
    if message:  # without arguments, the help has said it all
        with suppress(OSError):  # of a terminal that is gone
            print("memsolve: error:", "\n  ".join(lines), file=sys.stderr)
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        with terminal() as console:
            console.print(f"memsolve {__version__}", highlight=False)
        raise typer.Exit


def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Benchmark optimizers that store facts, against the laws of arXiv 2603.26554."""


def _print(finished: list[Finished], report_path: Path) -> None:
    """Print the tables, after all files are written: a closed terminal costs no file."""
    with terminal() as console:
        if not console.is_terminal:
            console.width = UNBOUNDED
        for study, summary in finished:
            console.print(terminal_table(study, summary, console.width))
            for line in notes(summary):
                console.print(Text(line), soft_wrap=True)
        console.print(Text(printable(f"report: {report_path}")), soft_wrap=True)
