"""Importing modules that a user names."""

import sys
from contextvars import ContextVar
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

FOLDER: ContextVar[str | None] = ContextVar("FOLDER", default=None)
"""The folder of modules that are not installed: a command's current folder. In Python, None."""


def import_named(module: str) -> ModuleType:
    """Import a module that a user has named.

    A module that is not installed is searched for in `FOLDER`. If it is there, the folder stays at
    the end of the module path, since the module may import its neighbours at any time. Otherwise
    the folder is not on the path, so that no file in it replaces a package, not even an optional
    one.

    Raises:
        Exception: whatever the import raises.
    """
    top = module.partition(".")[0]
    folder = FOLDER.get()
    if (
        folder is not None
        and top not in sys.modules
        and find_spec(top) is None
        and PathFinder.find_spec(top, [folder]) is not None
    ):
        sys.path.append(folder)
    return import_module(module)
