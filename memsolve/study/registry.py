"""Look studies up by name: those of this package, and others by their import path."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve.engine import Study, Summary
from memsolve.engine.results.load import load_summary, read_summary
from memsolve.engine.study import AnyStudy
from memsolve.importing import import_named

EXAMPLES = ("memsolve.examples.factual_recall.study",)
"""Studies of this distribution outside `memsolve.study`, by their import path."""


def studies() -> list[AnyStudy]:
    """All studies of `memsolve.study`, sorted by name."""
    package = __name__.rpartition(".")[0]
    modules = [
        import_module(info.name)
        for info in pkgutil.walk_packages([str(Path(__file__).parent)], f"{package}.")
    ]
    by_name = {
        value.name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Study) and name == value.name.replace("-", "_")
    }
    return [by_name[name] for name in sorted(by_name)]


def find(name: str) -> AnyStudy:
    """The study of a name, or of an import path, `module.object`.

    The module of the path is imported, so the name must come from the user, not from a file: for
    that use `load`.

    Raises:
        InputError: there is no such study.
    """
    for study in studies():
        if study.name == name:
            return study
    module, _, attribute = name.rpartition(".")
    if not module:
        names = ", ".join(study.name for study in studies())
        raise InputError(f"study {name!r} is unknown; expected one of {names}, or module.object")
    try:
        value = getattr(import_named(module), attribute)
    except Exception as error:  # the module may fail in any way
        raise InputError(f"study {name!r} does not import: {error}") from error
    if not isinstance(value, Study) or value.name != name:
        raise InputError(f"{name!r} is {value!r}; expected a memsolve.engine.Study of that name")
    return value


def load(folder: Path | str, external: Iterable[AnyStudy] = ()) -> tuple[AnyStudy, Summary[Any]]:
    """Load a finished study and its summary. No module is imported because a folder names it.

    Args:
        folder: of the study.
        external: further studies to look the name up in, for one that is not part of memsolve.

    Raises:
        InputError: the folder holds no study, or one that is neither in memsolve nor `external`.
    """
    name = read_summary(Path(folder))["study"]
    by_name = {study.name: study for study in (*studies(), *external)}
    if name not in by_name and (name in EXAMPLES or "." not in name):
        by_name[name] = find(name)
    if name not in by_name:
        raise InputError(
            f"{folder} holds a study {name!r}, which is not part of memsolve; if you trust its "
            "module, name it by --study (in Python, load(folder, [study]))"
        )
    return by_name[name], load_summary(by_name[name], Path(folder))
