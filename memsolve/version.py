"""Versions of distributions, and `memsolve --version`, without the seconds that torch takes."""

from importlib.metadata import PackageNotFoundError, version


def version_of(distribution: str) -> str:
    """The installed version of a distribution; "none" without one."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "from source" if distribution == "memsolve" else "none"


def print_version() -> bool:
    """Print the version, and return whether standard output could be written."""
    try:
        print(f"memsolve {version_of('memsolve')}", flush=True)
    except OSError:
        return False
    return True
