"""Keep the current folder from deciding what the command imports; runs before other imports."""

import os
import sys


def leave_current_folder() -> None:
    """Remove the current folder from the module path, where `python -m memsolve` puts it first.

    Otherwise a `numpy.py` in it would shadow the package.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name.partition(".")[0] == "memsolve" and not sys.flags.safe_path:
        del sys.path[0]


def number_of_ranks() -> int:
    """The number of processes that `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def leave_interrupts_to_first_rank() -> None:
    """Ignore interrupts in other ranks of `torchrun` than 0, which lets them end."""
    import signal

    if number_of_ranks() > 1 and os.environ["RANK"] != "0":
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def import_matplotlib() -> None:
    """Import matplotlib with its own defaults, without any `matplotlibrc` of the user.

    A `matplotlibrc` in the current folder would take precedence, so the import runs in another.
    """
    from contextlib import chdir, suppress
    from importlib.util import find_spec
    from pathlib import Path

    package = find_spec("matplotlib")
    if "matplotlib" in sys.modules or package is None or package.origin is None:
        return
    previous = os.environ.get("MATPLOTLIBRC")
    os.environ["MATPLOTLIBRC"] = str(Path(package.origin).with_name("mpl-data") / "matplotlibrc")
    try:
        with suppress(OSError), chdir(Path(__file__).parent):  # the current folder may be gone
            import matplotlib  # noqa: F401
    finally:
        del os.environ["MATPLOTLIBRC"]
        if previous is not None:
            os.environ["MATPLOTLIBRC"] = previous


def replace_unencodable() -> None:
    """Let standard output replace characters that its encoding lacks, as standard error does."""
    from io import TextIOWrapper

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
