"""The studies, one a module: whatever is a `Study` in a module here is a command of its name."""

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve.engine import Fit, Grid, Study, Summary
from memsolve.engine.summary import read
from memsolve.study.board import Board
from memsolve.study.capacity import capacity
from memsolve.study.critical_batch import critical_batch
from memsolve.study.dynamics import dynamics
from memsolve.study.leaderboard import leaderboard
from memsolve.study.precision import precision
from memsolve.study.race import Races
from memsolve.study.saturation import saturation
from memsolve.study.trials import Trials

__all__ = [
    "Board",
    "Fit",
    "Grid",
    "Races",
    "Summary",
    "Trials",
    "capacity",
    "critical_batch",
    "dynamics",
    "find",
    "leaderboard",
    "load",
    "precision",
    "saturation",
    "studies",
]

AnyStudy = Study[Any, Any, Any]


def studies() -> list[AnyStudy]:
    """Every study of this package, by module."""
    modules = [
        import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    ]
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Study) and name == value.name.replace("-", "_")
    ]


def find(name: str) -> AnyStudy:
    """The study of a name; of one that is not in this package, its path, `module.object`.

    Raises:
        InputError: there is none.
    """
    for study in studies():
        if study.name == name:
            return study
    module, _, attribute = name.rpartition(".")
    if not module:
        known = ", ".join(study.name for study in studies())
        raise InputError(f"study {name!r} is unknown; expected one of {known}, or module.object")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # the module may fail in any way
        raise InputError(f"study {name!r} does not import: {error}") from error
    if not isinstance(found, Study) or found.name != name:
        raise InputError(f"{name!r} is {found!r}; expected a memsolve.engine.Study of that name")
    return found


def load(folder: Path | str) -> tuple[AnyStudy, Summary[Any]]:
    """A finished study and its summary.

    Raises:
        InputError: the folder holds none.
    """
    study = find(read(Path(folder))["study"])
    return study, study.load(Path(folder))
