"""Whose code a module is: the user's own, or that of an installed distribution."""

import hashlib
import importlib.util
import os
import sys
import sysconfig
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

BY_VERSION = ("torch", "triton", "numpy", "memsolve", "memsolve_kernels")
"""Packages whose version is in the environment of every result."""

KERNELS = "memsolve_kernels"
"""Its operators of `torch.ops` cannot be followed."""

PYTHON = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib"))
SITE = {"site-packages", "dist-packages"}


def is_own(module: str) -> bool:
    """Whether a module is the user's own: neither Python's nor an installed distribution's.

    An editable install is the user's own, and so is what has no file, such as a prompt. The kernels
    count as installed: see `sources`.

    Args:
        module: its name, as `__module__` gives it.
    """
    top = module.partition(".")[0]
    if top == KERNELS:
        return False
    file = file_of(module) or file_of(top)
    if file is None:
        spec = getattr(sys.modules.get(top), "__spec__", None)
        return getattr(spec, "origin", None) not in ("built-in", "frozen")
    return _outside(file)


def file_of(module: str) -> str | None:
    """The file of a loaded module."""
    file: str | None = getattr(sys.modules.get(module), "__file__", None)
    return file


def root_of(module: str) -> str | None:
    """The folder that a module is imported from: that of its outermost package."""
    file = file_of(module)
    if file is None:
        return None
    depth = module.count(".") + Path(file).stem.count("__init__")
    return str(Path(file).absolute().parents[depth])


def own_file(module: str) -> Path | None:
    """The file of a module of the user's own that need not be loaded; None if there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    file = None if spec is None or not spec.has_location else spec.origin
    return Path(file) if file is not None and _outside(file) else None


def sources(module: str) -> str:
    """A digest of the kernels' source where they are an editable install; else nothing."""
    top = module.partition(".")[0]
    file = file_of(top) if top == KERNELS else None
    return _digest(Path(file).parent) if file is not None and _outside(file) else ""


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
        found = distribution(top)  # most have one name for both; the list of all takes 0.3 s
    except PackageNotFoundError:
        return _all().get(top, [])
    same = any(Path(str(found.locate_file(name))).exists() for name in (top, f"{top}.py"))
    return [found.name] if same else _all().get(top, [])


@cache
def _all() -> dict[str, list[str]]:
    return {top: sorted(set(names)) for top, names in packages_distributions().items()}


@cache
def _outside(file: str) -> bool:
    """Whether a file is neither of Python's nor among installed packages."""
    path = Path(file).absolute()
    real = os.path.realpath(file)
    inside = any(real.startswith(os.path.realpath(folder) + os.sep) for folder in PYTHON)
    return not inside and SITE.isdisjoint(path.parts)


@cache
def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        found.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
    return found.hexdigest()
