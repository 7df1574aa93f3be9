"""The command line `memsolve`."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from memsolve_kernels.errors import InputError
from rich.text import Text

from memsolve import __version__, ranks
from memsolve.api import run as run_study
from memsolve.engine.execution.choose import open_executor
from memsolve.engine.extend import grid_like
from memsolve.engine.grid import Grid
from memsolve.engine.measure import format_unfinished
from memsolve.engine.options import Option, options, split
from memsolve.engine.peak import STATED
from memsolve.engine.progress import Advance, Progress, bar
from memsolve.engine.results.load import load_summary
from memsolve.engine.results.merge import Finished, merge
from memsolve.engine.results.summary import Summary
from memsolve.engine.run import run as run_without_report
from memsolve.engine.study import AnyStudy
from memsolve.faults import MachineError
from memsolve.importing import FOLDER
from memsolve.output import terminal
from memsolve.records import commands as records
from memsolve.report import notes, terminal_tables, write_report
from memsolve.report.escape import escape_unprintable
from memsolve.report.ownership import refuse_foreign
from memsolve.report.page import REPORT
from memsolve.report.terminal import UNBOUNDED
from memsolve.spectrum.command import spectrum
from memsolve.study import find, leaderboard, load, studies

Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder for cells, summary.json, figures and report.html.", show_default=False
    ),
]
Add = Annotated[
    str | None,
    typer.Option(
        help="Optimizers to measure with the settings of a finished study and show in its table."
    ),
]
To = Annotated[
    Path | None,
    typer.Option(help="Folder of the finished study for --add.", show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
SkipFailing = Annotated[
    bool, typer.Option("--skip-failing", help="Leave out optimizers that cannot be used.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        help="Seconds per cell; a cell that takes longer fails.",
        show_default=False,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        help="Processes that measure side by side. Each has the threads of this one, so set "
        "OMP_NUM_THREADS: processes times threads should not exceed the cores.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Measure on the workers of a Dask scheduler, as tcp://host:8786.", show_default=False
    ),
]
Parameters = list[tuple[str, Any, Any]]
"""Name, default and annotation of options."""

RUN_PARAMETERS: Parameters = [
    ("resume", False, Resume),
    ("skip_failing", False, SkipFailing),
    ("time_limit", None, TimeLimit),
    ("jobs", 1, Jobs),
    ("scheduler", None, Scheduler),
]
"""Options of every study besides its grid and folders."""


def commands(arguments: list[str]) -> typer.Typer:
    """The command line: a command for every study, and for one that the first argument imports."""
    app = typer.Typer(add_completion=False, no_args_is_help=True)
    app.callback()(_main)
    for study in studies():
        _add_command(app, study)
    if arguments and "." in arguments[0]:
        _add_command(app, find(arguments[0]))
    app.command("report")(report)
    app.command("spectrum")(spectrum)
    return app


def _add_command(app: typer.Typer, study: AnyStudy) -> None:
    """Add the command of a study, with the options of its grid."""

    def command(
        context: typer.Context,
        out: Path | None,
        add: str | None,
        to: Path | None,
        **texts: Any,
    ) -> None:
        if context.invoked_subcommand is not None:
            _refuse_options(context)
            return
        run_options = {name: texts.pop(name) for name, _, _ in RUN_PARAMETERS}
        if to is not None and add is None:
            raise InputError("--to is the finished study of --add; give both, or none")
        texts = _without_defaults(context, study.grid, texts)
        grid = type(study.grid).parse(texts)  # before anything is started
        jobs, scheduler = run_options.pop("jobs"), run_options.pop("scheduler")
        with open_executor(jobs, scheduler) as executor:
            run_options |= {"executor": executor, "processes": _processes_here(jobs, scheduler)}
            if add is not None:
                summary = _run_added(study, texts, split(add), out, to, run_options)
            else:
                summary = _run(study, grid, out, run_options)
        if machine := [failure for failure in summary.failed if failure.machine]:
            raise MachineError(format_unfinished(study.name, machine))

    merging: Parameters = [("add", None, Add), ("to", None, To)]
    context: Parameters = [("context", inspect.Parameter.empty, typer.Context)]
    parameters = [("out", None, Out), *_grid_parameters(study.grid), *merging, *RUN_PARAMETERS]
    _declare(command, [*context, *parameters])
    subcommands = SUBCOMMANDS.get(study.name)
    if subcommands is None:
        app.command(study.name, help=study.question)(command)
        return
    group = typer.Typer(invoke_without_command=True, help=study.question)
    group.callback()(command)
    for name, function, further in subcommands:
        group.command(name)(_with_options(function, further))
    app.add_typer(group, name=study.name)


def _declare(command: Callable[..., None], parameters: Parameters) -> None:
    """Declare the parameters of a command."""
    kind = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, kind, default=default, annotation=annotation)
            for name, default, annotation in parameters
        ]
    )
    command.__annotations__ = {name: annotation for name, _, annotation in parameters}


def _with_options(function: Callable[..., None], further: Parameters) -> Callable[..., None]:
    """A command with further options, which it gets as keyword arguments where they are given."""
    names = {name for name, _, _ in further}

    def command(context: typer.Context, **values: Any) -> None:
        function(
            **{
                name: value
                for name, value in values.items()
                if name not in names or _is_given(context, name)
            }
        )

    own: Parameters = [
        (name, each.default, each.annotation)
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    context: Parameters = [("context", inspect.Parameter.empty, typer.Context)]
    _declare(command, [*context, *own, *further])
    command.__doc__ = function.__doc__
    return command


def _refuse_options(context: typer.Context) -> None:
    """Refuse options of a study before its subcommand, which has options of its own.

    Raises:
        InputError: names the first of them.
    """
    for parameter in context.command.params:
        if _is_given(context, str(parameter.name)):
            raise InputError(
                f"{parameter.opts[0]} stands before {context.invoked_subcommand}; options of "
                f"{context.invoked_subcommand} follow it, see memsolve {context.info_name} "
                f"{context.invoked_subcommand} --help"
            )


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether the command line has an option."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _without_defaults(context: typer.Context, grid: Grid, texts: dict[str, Any]) -> dict[str, Any]:
    """The options of a grid without those that are not given and have the default of its class."""
    defaults = {
        name: option.format(getattr(type(grid), name)) for name, option in options(type(grid))
    }
    return {
        name: text
        for name, text in texts.items()
        if _is_given(context, name) or text != defaults[name]
    }


def _processes_here(jobs: int, scheduler: str | None) -> int:
    """How many processes of this machine measure cells; 0 if the workers of a scheduler do."""
    return 0 if scheduler is not None else max(jobs, ranks.on_this_machine())


def _grid_parameters(grid: Grid) -> Parameters:
    return [_parameter(grid, name, option) for name, option in options(grid)]


def _parameter(grid: Grid, name: str, option: Option) -> tuple[str, Any, Any]:
    """The option of a field of a grid."""
    return (
        name,
        option.format(getattr(grid, name)),
        Annotated[
            bool if option.kind is bool else str | None, typer.Option(option.flag, help=option.help)
        ],
    )


SUBCOMMANDS: dict[str, list[tuple[str, Callable[..., None], Parameters]]] = {
    "leaderboard": [
        (
            "submit",
            records.submit,
            [_parameter(leaderboard.grid, *entry) for entry in records.grid_options()],
        ),
        ("verify", records.verify, []),
    ]
}
"""Commands of a study besides the study itself: name, function, and further options."""


def _run(
    study: AnyStudy, grid: Grid, out: Path | None, run_options: dict[str, Any]
) -> Summary[Any]:
    """Run a study, and report it."""
    folder = out or Path("results", study.name)
    progress = _progress(study, grid, run_options.pop("processes"))
    summary = run_study(study, grid, out=folder, progress=progress, **run_options)
    _print([(study, summary)], folder / REPORT)
    return summary


def _run_added(
    study: AnyStudy,
    texts: Mapping[str, str | bool | None],
    optimizers: Sequence[str],
    out: Path | None,
    finished: Path | None,
    run_options: dict[str, Any],
) -> Summary[Any]:
    """Measure further optimizers as a finished study was measured, and report them in one table."""
    folder = out or Path("results", f"{study.name}-added")
    finished = finished or study.record
    if finished is None:
        raise InputError("--add needs a finished study to be shown with: --to FOLDER")
    if folder.resolve() == finished.resolve():
        raise InputError(f"--out and --to are both {folder}; expected another folder")
    grid = grid_like(study, finished, optimizers, texts)
    refuse_foreign(folder, [REPORT])
    progress = _progress(study, grid, run_options.pop("processes"))
    summary = run_without_report(study, grid, folder, progress=progress, **run_options)
    merged = merge([(finished, study, load_summary(study, finished)), (folder, study, summary)])
    _print(merged, write_report(merged, folder))
    return summary


def _progress(study: AnyStudy, grid: Grid, processes: int) -> Progress:
    """A bar, and before the first cell the memory that cells will take, where it is not small."""
    peaks = [study.peak(study.complete(grid))] if processes else []

    def progress(name: str, total: int, done: int) -> AbstractContextManager[Advance]:
        if done < total and peaks and (peak := peaks.pop()) and peak.cell_bytes >= STATED:
            print(peak.format(processes), file=sys.stderr)
        return bar(name, total, done)

    return progress


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished studies.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures and report.html.")],
    study: Annotated[
        list[str],
        typer.Option(help="A study of another package in a folder, as my_module.my_study."),
    ] = [],  # noqa: B006 - typer copies it
) -> None:
    """Write one report of several finished studies; those of one kind share a ranked table."""
    imported = [find(name) for name in study]
    merged = merge([(folder, *load(folder, imported)) for folder in folders])
    _print(merged, write_report(merged, out))


def run_command(arguments: list[str]) -> int:
    """Run the command line, and return the exit status.

    The status is 2, with a message on standard error, for errors that the user can fix.
    """
    with suppress(OSError):  # the current folder may be gone
        FOLDER.set(os.getcwd())
    # The base of typer's usage errors has no name of its own in every release of typer.
    usage_error = cast("type[Exception]", typer.BadParameter.__base__)
    try:
        return int(commands(arguments)(arguments, standalone_mode=False) or 0)
    except InputError as error:
        return _print_error(str(error))
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _print_error(message)
    except (MemoryError, OverflowError, RecursionError) as error:
        return _print_error(f"{type(error).__name__}: {error}")
    except usage_error as error:
        return _print_error(cast("Any", error).format_message())
    except typer.Abort:
        raise KeyboardInterrupt from None


def _print_error(message: str) -> int:
    """Print one line for each line of a message, and return the exit status.

    The message is empty for a command without arguments, which has printed its help.
    """
    lines = [escape_unprintable(" ".join(line.split())) for line in message.split("\n")]
    if message:
        with suppress(OSError):  # the terminal may be gone
            print("memsolve: error:", "\n  ".join(lines), file=sys.stderr)
    return 2


def _print(finished: Sequence[Finished], report_path: Path) -> None:
    """Print the tables. All files are written before, so that a closed terminal loses none."""
    with terminal() as console:
        if not console.is_terminal:
            console.width = UNBOUNDED
        for study, summary in finished:
            for table in terminal_tables(study, summary, console.width):
                console.print(table)
            for line in study.conclusions(summary):
                console.print(Text(escape_unprintable(line)), soft_wrap=True)
            for line in notes(summary):
                console.print(Text(line), soft_wrap=True)
        console.print(Text(escape_unprintable(f"report: {report_path}")), soft_wrap=True)


def _version(requested: bool) -> None:
    if requested:
        with terminal() as console:
            console.print(f"memsolve {__version__}", highlight=False)
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Benchmark optimizers that store facts, against the laws of arXiv 2603.26554."""
