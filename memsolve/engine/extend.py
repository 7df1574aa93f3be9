"""The grid of further optimizers, measured with the settings of a finished study."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from memsolve_kernels.errors import InputError

from memsolve.engine.grid import Grid
from memsolve.engine.options import options
from memsolve.engine.results.load import load_summary
from memsolve.engine.study import AnyStudy


def grid_like(
    study: AnyStudy, folder: Path, optimizers: Sequence[str], texts: Mapping[str, str | bool | None]
) -> Grid:
    """The grid of a finished study with other optimizers, and another device.

    Args:
        study: its kind.
        folder: of the finished study.
        optimizers: their names.
        texts: of a command line, by field; only the device may differ from the default.

    Raises:
        InputError: the folder holds no such study, or the command line has other settings.
    """
    for name, option in options(study.grid):
        default = option.format(getattr(study.grid, name))
        if name != "device" and texts.get(name, default) != default:
            raise InputError(
                f"{option.flag} is given with --add, which measures as {folder} was measured; "
                f"leave out one of them"
            )
    recorded = load_summary(study, folder).grid
    try:
        grid: Grid = type(study.grid).from_json(recorded)
    except (TypeError, InputError) as error:
        raise InputError(f"{folder} does not say how it was measured: {error}") from error
    device = str(texts.get("device") or study.grid.device)
    return replace(grid, optimizers=list(optimizers), device=device, sweep=())
