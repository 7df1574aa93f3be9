"""The command `memsolve spectrum`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from memsolve_kernels.arguments import parse_int
from memsolve_kernels.errors import DeviceError, DtypeError, InputError
from rich.table import Table
from rich.text import Text

from memsolve.engine.progress import bar
from memsolve.engine.storage.folder import alone, write
from memsolve.output import terminal
from memsolve.report.escape import escape_unprintable
from memsolve.report.ownership import refuse_foreign
from memsolve.report.terminal import UNBOUNDED
from memsolve.spectrum.choose import CertifiedSchedule, UnresolvedError, choose, stratify
from memsolve.spectrum.matrices import Contents, format_omissions, read_matrices
from memsolve.spectrum.safetensors import DTYPES
from memsolve.spectrum.schedules import Target, format_dtype
from memsolve.spectrum.singular_values import Spectrum, spectra_of
from memsolve.spectrum.tables import (
    certificate_lines,
    matrices_table,
    muon_line,
    schedules_table,
    to_csv,
)

TABLE, FIGURE = "spectrum.csv", "spectrum.png"

DTYPE_NAMES = {format_dtype(dtype): dtype for dtype in DTYPES.values()}


def spectrum(
    files: Annotated[
        list[Path],
        typer.Argument(help="safetensors files, or states of optimizers saved by torch.save."),
    ],
    share: Annotated[
        float, typer.Option(help="Share of the singular values that the schedule resolves.")
    ] = 0.99,
    tolerance: Annotated[
        float, typer.Option(help="A resolved one ends at most this far from one.")
    ] = 0.3,
    dtype: Annotated[
        str, typer.Option(help=f"Of the iteration: {', '.join(DTYPE_NAMES)}.")
    ] = "bfloat16",
    match: Annotated[
        list[str], typer.Option(help="Pattern of the names of matrices to read, as '*.mlp.*'.")
    ] = [],  # noqa: B006 - typer copies it
    skip: Annotated[
        list[str], typer.Option(help="Pattern of the names of matrices to leave out.")
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None,
        typer.Option(help=f"Folder for {TABLE} and {FIGURE}.", show_default=False),
    ] = None,
    verify: Annotated[
        int,
        typer.Option(help="Matrices on which rounding is measured, each for a part of all."),
    ] = 8,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")] = "cpu",
) -> None:
    """Show the singular values in a checkpoint, and the cheapest schedule of Muon for them.

    Muon takes the sign of momenta: give the state of its optimizer for the schedule of a training
    run. A model's weights have a spectrum of their own.
    """
    target = Target(share, tolerance, _parse_dtype(dtype))
    target.check()
    parse_int("--verify", verify, 1)
    _check_device(device)
    if out is not None:
        refuse_foreign(out, [FIGURE])
    contents = read_matrices(files, match, skip)
    spectra = _measure(contents, device)
    choice, reason = _choose(spectra, target, verify, device)
    if out is not None:
        _write(out, spectra, choice, target)
    lines = [] if choice is None else _choice_lines(choice, target, len(spectra), verify)
    if contents.omissions:
        lines.insert(0, f"left out: {format_omissions(contents)}")
    if out is not None:
        lines.insert(0, f"written: {out / TABLE}, {out / FIGURE}")
    _print(spectra, schedules_table(spectra, target, choice), lines)
    if reason is not None:
        raise reason


def _parse_dtype(name: str) -> torch.dtype:
    if name not in DTYPE_NAMES:
        raise DtypeError(f"--dtype is {name!r}; expected one of {', '.join(DTYPE_NAMES)}")
    return DTYPE_NAMES[name]


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"--device is {name!r}, which cannot be used: {reason}") from error


def _measure(contents: Contents, device: str) -> list[Spectrum]:
    """The spectra of the matrices that are not zero."""
    matrices, spectra = contents.matrices, []
    with bar("singular values", len(matrices), 0) as advance:
        for spectrum in spectra_of(matrices, device):
            advance(escape_unprintable(spectrum.matrix.name))
            if len(spectrum.values):
                spectra.append(spectrum)
            else:
                contents.omissions["zero"] += 1
    if not spectra:
        raise InputError("all matrices are zero; expected a state after at least one step")
    return spectra


def _choose(
    spectra: Sequence[Spectrum], target: Target, number: int, device: str
) -> tuple[CertifiedSchedule | None, UnresolvedError | None]:
    """The schedule, or why there is none."""
    strata = stratify(spectra, number)
    with bar("rounding", len(strata), 0) as advance:
        try:
            return choose(spectra, target, strata, device, advance), None
        except UnresolvedError as error:
            return None, error


def _write(
    out: Path, spectra: Sequence[Spectrum], choice: CertifiedSchedule | None, target: Target
) -> None:
    from memsolve.report.drawing import DESKTOP_WIDTH, figure_style
    from memsolve.report.page import render
    from memsolve.spectrum.figure import spectrum_figure

    with alone(out):
        refuse_foreign(out, [FIGURE])
        with figure_style(DESKTOP_WIDTH):
            picture = render(spectrum_figure(spectra))
        write(out / TABLE, to_csv(spectra, choice, target))
        write(out / FIGURE, picture.png)


def _choice_lines(choice: CertifiedSchedule, target: Target, total: int, number: int) -> list[str]:
    """What is certified of a schedule; the line of code is the last."""
    verified = f"{number} of {total} matrices" if number < total else f"all {total} matrices"
    return [*certificate_lines(choice, target, verified), muon_line(choice, target)]


def _print(spectra: Sequence[Spectrum], schedules: Table, lines: Sequence[str]) -> None:
    """Print both tables, and the lines below them."""
    with terminal() as console:
        if not console.is_terminal:
            console.width = UNBOUNDED
        console.print(matrices_table(spectra, console.width))
        console.print(schedules)
        for line in lines:
            console.print(Text(escape_unprintable(line)), soft_wrap=True)
