"""More optimizers, measured with the settings of a finished study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsolve_kernels.errors import InputError

from memsolve.engine.grid import Grid, options
from memsolve.engine.settings import UNKNOWN, given

if TYPE_CHECKING:
    from memsolve.engine.study import Study


def grid_beside(
    study: "Study[Any, Any, Any]",
    folder: Path,
    optimizers: Sequence[str],
    texts: Mapping[str, str | None],
) -> Grid:
    """The grid of a finished study, but for its optimizers and device.

    Args:
        study: its kind.
        folder: where it is.
        optimizers: their names.
        texts: of a command line, by field, of which the device alone may differ from the default.

    Raises:
        InputError: there is no such study, its command does not say how it was made, or the
            command line says otherwise.
    """
    named = options(type(study.grid))
    for name, option in named:
        if name != "device" and texts.get(name) != option.text(getattr(study.grid, name)):
            raise InputError(
                f"{option.flag} is given with --add, which measures as {folder} was measured; "
                f"leave out one of them"
            )
    command = study.load(folder).command
    found = given(type(study.grid), command)
    if UNKNOWN in found.values():
        raise InputError(
            f"{folder} does not say how it was made: its command, {command!r}, cannot be read"
        )
    of = {"optimizers": ",".join(optimizers), "device": texts.get("device")}
    return type(study.grid).parse({**found, **of, "sweep": None})
