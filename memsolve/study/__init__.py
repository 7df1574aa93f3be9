"""The studies, one a module: whatever is a `Study` in a module here is a command of its name."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve.engine import Fit, Grid, Study, Summary
from memsolve.engine.naming import import_named
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

EXAMPLES = ("memsolve.examples.factual_recall.study",)
"""Studies of this package outside of this module, by their path."""


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
    """The study of a name that a person gives; of one elsewhere, its path, `module.object`.

    The module of that path is imported: a name from a file is for `load`.

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
        found = getattr(import_named(module), attribute)
    except Exception as error:  # the module may fail in any way
        raise InputError(f"study {name!r} does not import: {error}") from error
    if not isinstance(found, Study) or found.name != name:
        raise InputError(f"{name!r} is {found!r}; expected a memsolve.engine.Study of that name")
    return found


def load(folder: Path | str, own: Iterable[AnyStudy] = ()) -> tuple[AnyStudy, Summary[Any]]:
    """A finished study and its summary. Nothing is imported because the folder names it.

    Args:
        folder: of the study.
        own: studies that are not in this package, of which it may be one.

    Raises:
        InputError: the folder holds none, or a study that is neither in this package nor given.
    """
    name = read(Path(folder))["study"]
    known = {study.name: study for study in (*studies(), *own)}
    if name not in known and (name in EXAMPLES or "." not in name):
        known[name] = find(name)
    if name not in known:
        raise InputError(
            f"{folder} holds a study {name!r}, which is none of memsolve's; if you trust its "
            "module, name it by --study (in Python, load(folder, [study]))"
        )
    return known[name], known[name].load(Path(folder))
