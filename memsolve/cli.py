"""The command `memsolve`."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from memsolve_kernels.errors import InputError, RangeError
from rich.console import Console

from memsolve.report import terminal_table, write_report
from memsolve.study import Grid, Summary, capacity, precision, saturation
from memsolve.study.precision import VARIANTS

INTERRUPTED = 130

app = typer.Typer(
    help="Benchmark optimizers that store facts, against the laws of arXiv 2603.26554.",
    add_completion=False,
    no_args_is_help=True,
)

Alpha = Annotated[str, typer.Option(help="Exponents of the item frequencies, above 1.")]
Dims = Annotated[str, typer.Option(help="Embedding dimensions d.")]
Names = Annotated[
    str, typer.Option(help="sgd, muon, newton, or a class: torch.optim.AdamW:lr=0.01.")
]
Seeds = Annotated[int, typer.Option(help="How many seeds.")]
Items = Annotated[int | None, typer.Option(help="Facts N of every memory (default: 128 d).")]
Batches = Annotated[
    str | None,
    typer.Option(help="For saturation (default: powers of two to d^(alpha + 1/2))."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Dtype = Annotated[str, typer.Option(help="float64 or float32.")]
Out = Annotated[Path, typer.Option(help="Folder for cells, summary.json, figures, report.html.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what is in --out.")]


Study = Callable[..., Summary]


def _add_command(study: Study, summary: str, dims_by_default: str, names_by_default: str) -> None:
    """All studies take the same options; only two defaults differ."""

    def command(
        out: Out,
        alpha: Alpha = "1.5",
        dims: Dims = dims_by_default,
        optimizers: Names = names_by_default,
        seeds: Seeds = 5,
        num_items: Items = None,
        batch_sizes: Batches = None,
        device: Device = "auto",
        dtype: Dtype = "float64",
        resume: Resume = False,
    ) -> None:
        grid = Grid(
            optimizers=_split(optimizers),
            alphas=_numbers("--alpha", alpha, float),
            dims=_numbers("--dims", dims, int),
            seeds=seeds,
            num_items=num_items,
            batch_sizes=_numbers("--batch-sizes", batch_sizes, int) if batch_sizes else None,
            device=device,
            dtype=dtype,
        )
        _report([study(grid, out, resume=resume)], out)

    app.command(study.__name__, help=summary)(command)


_add_command(
    capacity,
    "Items stored by one step on the population gradient, against d.",
    "64,128,256",
    "sgd,muon,newton",
)
_add_command(
    saturation,
    "Batch size at which small batches' recall reaches the population's, against d.",
    "64,128,256",
    "sgd,muon,newton",
)
_add_command(
    precision,
    "What Muons of less exact schedule, steps, damping or dtype store of the exact one's facts.",
    "256",
    ",".join(VARIANTS),
)


@app.command("report")
def report_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished studies.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures and report.html.")],
) -> None:
    """One report of several finished studies."""
    _report([Summary.load(folder) for folder in folders], out)


def main() -> None:
    """Run the command line; what a person can mend is said in one line, with exit status 2."""
    sys.path.insert(0, "")  # so that `my_module.MyOptimizer` imports from the current folder
    # The base of typer's usage errors has no name of its own in every release of typer.
    usage_error = cast("type[Exception]", typer.BadParameter.__base__)
    try:
        status = app(standalone_mode=False)
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


def _split(text: str) -> list[str]:
    """Parts between commas, except commas inside brackets: `adam:betas=(0.9,0.95),sgd`."""
    return [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", text) if part.strip()]


def _numbers(option: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(part) for part in _split(text)]
    except ValueError as error:
        expected = "whole numbers" if kind is int else "numbers"
        raise RangeError(
            f"{option} is {text!r}; expected {expected}, separated by commas"
        ) from error


def _report(summaries: list[Summary], out: Path) -> None:
    console = Console()
    for summary in summaries:
        console.print(terminal_table(summary))
    console.print(f"report: {write_report(summaries, out)}", soft_wrap=True)
