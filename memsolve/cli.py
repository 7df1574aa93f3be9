"""The command `memsolve`."""

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from memsolve_kernels.errors import InputError
from rich.console import Console

from memsolve.engine import Study
from memsolve.engine.grid import options
from memsolve.report import Finished, terminal_table, write_report
from memsolve.study import find, load, studies

INTERRUPTED = 130

Out = Annotated[Path, typer.Option(help="Folder for cells, summary.json, figures, report.html.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what is in --out.")]


def commands(words: list[str]) -> typer.Typer:
    """The command line: every study, and the one that its first word names by its path."""
    app = typer.Typer(
        help="Benchmark optimizers that store facts, against the laws of arXiv 2603.26554.",
        add_completion=False,
        no_args_is_help=True,
    )
    for study in studies():
        _add_command(app, study)
    if words and "." in words[0]:
        _add_command(app, find(words[0]))
    app.command("report")(report)
    return app


def _add_command(app: typer.Typer, study: Study[Any, Any, Any]) -> None:
    """A study's command: the options of its grid, and where its results go."""
    grid = study.grid

    def command(out: Path, resume: bool = False, **texts: str | int | None) -> None:
        given = {name: None if text is None else str(text) for name, text in texts.items()}
        summary = study(type(grid).parse(given), out, resume=resume)
        _report([(study, summary)], out)

    parameters = [inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, annotation=Out)]
    for name, option in options(type(grid)):
        words = option.words(getattr(grid, name))
        kind = str if option.many else option.kind
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=kind(words[1]) if words else None,
                annotation=Annotated[kind | None, typer.Option(option.flag, help=option.help)],
            )
        )
    parameters.append(
        inspect.Parameter(
            "resume", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Resume
        )
    )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    app.command(study.name, help=study.question)(command)


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished studies.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures and report.html.")],
) -> None:
    """One report of several finished studies."""
    _report([load(folder) for folder in folders], out)


def main() -> None:
    """Run the command line; what a person can mend is said in one line, with exit status 2."""
    sys.path.insert(0, "")  # so that `my_module.MyOptimizer` imports from the current folder
    # The base of typer's usage errors has no name of its own in every release of typer.
    usage_error = cast("type[Exception]", typer.BadParameter.__base__)
    try:
        status = commands(sys.argv[1:])(standalone_mode=False)
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    except usage_error as error:
        _fail(cast("Any", error).format_message())
    except typer.Abort:
        status = INTERRUPTED
    if status == INTERRUPTED:
        print("memsolve: interrupted; a study goes on with --resume", file=sys.stderr)
    sys.exit(status)


def _fail(message: str) -> None:
    if message:  # without arguments, the help has said it all
        print(f"memsolve: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _report(finished: list[Finished], out: Path) -> None:
    console = Console()
    for study, summary in finished:
        console.print(terminal_table(study, summary))
    console.print(f"report: {write_report(finished, out)}", soft_wrap=True)
