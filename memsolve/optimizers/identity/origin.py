"""The origin of a module: the user's own code, or an installed distribution."""

import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from typing import NamedTuple

BY_VERSION = ("torch", "triton", "numpy", "memsolve", "memsolve_kernels")
"""Packages whose version is in the environment of every result."""

KERNELS = "memsolve_kernels"
"""The package of the kernels, whose operators of `torch.ops` cannot be followed."""

PYTHON = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib"))
SITE = {"site-packages", "dist-packages"}


class Origin(NamedTuple):
    """Where the code of a module comes from.

    Attributes:
        own: it is the user's own; see `is_own`.
        root: the folder that it is imported from, of its outermost package; None without a file.
        extension: the file of an own module that is not written in Python, else None.
    """

    own: bool
    root: str | None
    extension: str | None


def origin_of(module: str) -> Origin:
    """The origin of a module; without folder and file unless it is the user's own."""
    own, file = is_own(module), _file_of(module)
    if not own or file is None:
        return Origin(own, None, None)
    depth = module.count(".") + Path(file).stem.count("__init__")
    root = str(Path(file).absolute().parents[depth])
    return Origin(True, root, None if file.endswith(".py") else file)


def is_own(module: str) -> bool:
    """Whether a module is the user's own: neither Python's nor an installed distribution's.

    An editable install is the user's own, and so is a module without a file, such as a prompt. The
    kernels count as installed: see `kernels_digest`.

    Args:
        module: its name, as `__module__` gives it.
    """
    top = module.partition(".")[0]
    if top == KERNELS:
        return False
    file = _file_of(module) or _file_of(top)
    if file is None:
        spec = getattr(sys.modules.get(top), "__spec__", None)
        return getattr(spec, "origin", None) not in ("built-in", "frozen")
    return _is_outside(file)


def _file_of(module: str) -> str | None:
    """The file of a loaded module."""
    file: str | None = getattr(sys.modules.get(module), "__file__", None)
    return file


def own_file(module: str) -> Path | None:
    """The file of a module of the user's own that need not be loaded; None if there is none.

    Nothing is imported, not even the packages that hold the module.
    """
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    except (ImportError, ValueError, AttributeError):
        return None
    file = None if spec is None or not spec.has_location else spec.origin
    return Path(file) if file is not None and _is_outside(file) else None


def kernels_digest(modules: Iterable[str]) -> str:
    """A digest of the kernels' source if modules are among them and their install is editable."""
    if all(module.partition(".")[0] != KERNELS for module in modules):
        return ""
    file = _file_of(KERNELS)
    return _digest(Path(file).parent) if file is not None and _is_outside(file) else ""


def distributions(module: str) -> list[str]:
    """Names and versions of the distributions of an installed module, but those of `BY_VERSION`."""
    top = module.partition(".")[0]
    if top in BY_VERSION or top in sys.stdlib_module_names:
        return []
    return [f"{name} {version(name)}" for name in _names(top)]


@cache
def _names(top: str) -> list[str]:
    """Names of the distributions of a package."""
    try:
        same = distribution(top)  # most have its name; the list of all takes 0.3 s
    except PackageNotFoundError:
        return _all_names().get(top, [])
    holds = any(Path(str(same.locate_file(name))).exists() for name in (top, f"{top}.py"))
    return [same.name] if holds else _all_names().get(top, [])


@cache
def _all_names() -> dict[str, list[str]]:
    return {top: sorted(set(names)) for top, names in packages_distributions().items()}


@cache
def _is_outside(file: str) -> bool:
    """Whether a file belongs neither to Python nor to an installed package."""
    path = Path(file).absolute()
    real = os.path.realpath(file)
    inside = any(real.startswith(os.path.realpath(folder) + os.sep) for folder in PYTHON)
    return not inside and SITE.isdisjoint(path.parts)


@cache
def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
