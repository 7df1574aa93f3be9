"""Importing what a person names."""

import sys
from contextvars import ContextVar
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

FOLDER: ContextVar[str | None] = ContextVar("FOLDER", default=None)
"""Where a command looks for modules that are not installed: its current folder. In Python, None."""


def import_named(module: str) -> ModuleType:
    """Import the module that a person has named.

    What is not installed is looked for in `FOLDER`, which then stays at the end of the module
    path, since a module there may import its neighbours at any time. Without such a module the
    folder is not on the path, so that nothing in it replaces a package, not even an optional one.

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
