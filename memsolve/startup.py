"""Before a command imports anything: what the folder that it is run in must not decide."""

import os
import sys


def leave_current_folder() -> None:
    """Take the current folder off the module path, where `python -m memsolve` puts it first.

    A `numpy.py` that lies there would be run in place of the package.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name.partition(".")[0] == "memsolve" and not sys.flags.safe_path:
        del sys.path[0]


def import_matplotlib() -> None:
    """Import matplotlib with its own defaults, whatever `matplotlibrc` there is.

    The one in the current folder comes before all others, so it is imported in another.
    """
    from contextlib import chdir, suppress
    from importlib.util import find_spec
    from pathlib import Path

    package = find_spec("matplotlib")
    if "matplotlib" in sys.modules or package is None or package.origin is None:
        return
    given = os.environ.get("MATPLOTLIBRC")
    os.environ["MATPLOTLIBRC"] = str(Path(package.origin).with_name("mpl-data") / "matplotlibrc")
    try:
        with suppress(OSError), chdir(Path(__file__).parent):  # the current folder may be gone
            import matplotlib  # noqa: F401
    finally:
        del os.environ["MATPLOTLIBRC"]
        if given is not None:
            os.environ["MATPLOTLIBRC"] = given


def replace_what_cannot_be_shown() -> None:
    """Let standard output replace the characters that its encoding lacks, as stderr does."""
    from io import TextIOWrapper

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
